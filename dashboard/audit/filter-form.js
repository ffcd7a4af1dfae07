// The form of the filter above the records.

import { ACTIONS, actionName } from "../lib/audit-record.js";
import { h, newId } from "../lib/dom.js";
import { fromLocalInput, toLocalInput } from "../lib/local-time.js";

/** The broker takes a `*` at the end for any end. */
const GROUPS = { "sandbox.*": "any on a sandbox", "pause.*": "any on a pause", "token.*": "any on a token" };

/** `onApply(filter)` is called when the operator applies or clears the filter. */
export function filterForm(onApply) {
  const text = (placeholder) => h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder });
  const inputs = {
    from: h("input", { type: "datetime-local" }),
    to: h("input", { type: "datetime-local" }),
    actor: text("a name, or its beginning and *"),
    action: h("select", {},
      h("option", { value: "" }, "any"),
      Object.entries(GROUPS).map(([value, label]) => h("option", { value }, label)),
      ACTIONS.map(actionOption)),
    target: text("sandbox/2009521, job/*"),
    outcome: text("done, or a code"),
  };
  const labels = { from: "From", to: "To", actor: "Actor", action: "Action", target: "Target", outcome: "Outcome" };
  const node = h("form", { class: "filters", role: "search", novalidate: true, onsubmit: apply, onreset: () => setTimeout(apply) },
    Object.entries(inputs).map(([key, input]) => {
      input.id = newId(key);
      return h("div", {}, h("label", { for: input.id }, labels[key]), input);
    }),
    h("button", { class: "primary" }, "Apply"),
    h("button", { type: "reset" }, "Clear"));

  function apply(event) {
    event?.preventDefault();
    // An incomplete time has no value; the browser says what is missing.
    const incomplete = [inputs.from, inputs.to].find(({ validity }) => validity.badInput);
    if (incomplete) incomplete.reportValidity();
    else onApply(value());
  }

  function value() {
    const texts = Object.fromEntries(Object.entries(inputs).map(([key, { value: entered }]) => [key, entered.trim()]));
    return { ...texts, from: fromLocalInput(texts.from), to: fromLocalInput(texts.to) };
  }

  return {
    node,
    /** Shows a filter. An action that this page does not know is offered too. */
    set(filter) {
      for (const key of ["actor", "target", "outcome"]) inputs[key].value = filter[key];
      for (const key of ["from", "to"]) inputs[key].value = toLocalInput(filter[key]);
      inputs.action.value = filter.action;
      if (inputs.action.value === filter.action) return;
      inputs.action.append(actionOption(filter.action));
      inputs.action.value = filter.action;
    },
  };
}

const actionOption = (action) => h("option", { value: action }, actionName(action));
