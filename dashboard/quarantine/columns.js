// The columns of the table of quarantined sandboxes.

import { h } from "../lib/dom.js";
import { FIELDS } from "../sandboxes/fields.js";
import { holderText } from "../sandboxes/actions.js";
import { setAsideText } from "./set-aside.js";

const field = (key, label) => {
  const found = FIELDS.find((one) => one.key === key);
  return label ? { ...found, label } : found;
};
const text = (key, label, textOf) => ({ key, label, text: textOf });

/**
 * Returns the columns. With `actions`, the last one has a button for each of them that the state of a sandbox allows;
 * `onAct(action, row)` is called by it.
 */
export function quarantineColumns({ actions, onAct }) {
  return [
    field("sandbox_id"), field("name"),
    text("set_aside_by", "Set aside by", setAsideText),
    field("quarantined_at", "Since"),
    { ...field("quarantined_until", "Until"), text: (row) => field("quarantined_until").text(row) || "somebody ends it" },
    field("quarantine_reason", "Reason"),
    { ...field("quarantined_from", "Before"), text: field("quarantined_from").exact },
    text("holder", "Holder", (row, { now }) => holderText(row, now)),
    ...(actions.length > 0 ? [{ key: "actions", label: "Actions", createCell: () => actionCell(actions, onAct) }] : []),
  ];
}

function actionCell(actions, onAct) {
  let current = null;
  const buttons = actions.map((action) => {
    const id = h("span", { class: "hidden" });
    const button = h("button", { type: "button", onclick: () => onAct(action, current) }, `${action.label} …`, id);
    return { action, button, id };
  });
  return {
    node: h("td", { class: "row-buttons" }, buttons.map(({ button }) => button)),
    update(row) {
      current = row;
      for (const { action, button, id } of buttons) {
        button.hidden = !action.allows(row);
        id.textContent = ` ${row.sandbox_id}`;
      }
    },
  };
}
