// The bar of the selected sandboxes: how many there are, and the actions on all of them.

import { h, setText } from "../lib/dom.js";
import { number, sandboxes } from "../lib/format.js";
import { ACTIONS } from "./actions.js";

/** `actions` are the offered ones. `onAction(action)` is called by the button of an action, `onClear()` by the one that clears the selection. */
export function createSelectionBar({ actions = ACTIONS, onAction, onClear }) {
  const count = h("p", { role: "status" });
  const buttons = actions.map((action) =>
    h("button", { type: "button", class: action.isDanger ? "danger" : "", onclick: () => onAction(action) }));
  const clear = h("button", { type: "button", onclick: onClear }, "Clear selection");
  return {
    node: h("div", { class: "bar-line selection", role: "group", "aria-label": "Selected sandboxes" }, count, buttons, clear),
    /**
     * Shows the actions that the state of at least one of the rows allows, with the number of those. `elsewhere` of the
     * rows are not on the page.
     */
    show(rows, elsewhere) {
      const rest = elsewhere > 0 ? `, ${number(elsewhere)} of them not on this page` : "";
      setText(count, rows.length ? `${sandboxes(rows.length)} selected${rest}` : "No sandbox selected");
      actions.forEach((action, index) => {
        const allowed = rows.filter(action.allows).length;
        buttons[index].hidden = allowed === 0;
        setText(buttons[index], `${action.label} ${number(allowed)} …`);
      });
      clear.hidden = rows.length === 0;
    },
  };
}
