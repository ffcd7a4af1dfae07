// The form of an action: its effects on the sandboxes and their holders, its reason, and its other fields.

import { h, scrollRegion } from "../lib/dom.js";
import { askForm, createEndField, createField, createReasonField } from "../lib/form.js";
import { sandboxes } from "../lib/format.js";
import { MAX_EXTENSION_MINUTES } from "./actions.js";

/**
 * Asks the operator about an action on `rows`, and resolves to the result of `submit(body)`, where `body` is that of the
 * requests, or to null if the operator cancels. `note` is one more paragraph.
 */
export function askForAction(action, rows, { now, note = null, submit }) {
  const names = rows.length === 1 ? `sandbox ${rows[0].sandbox_id}` : sandboxes(rows.length);
  const reason = createReasonField();
  const extra = EXTRA_FIELDS[action.needs]?.(now);
  return askForm({
    title: `${action.label} ${names}?`,
    intro: [effectsOn(rows, action, now), note && h("p", {}, note)],
    fields: extra ? [extra.field, reason] : [reason],
    action: `${action.label} ${rows.length === 1 ? "sandbox" : names}`,
    isDanger: action.isDanger,
    check: () => [...(extra?.faults() ?? []), ...reason.faults()],
    submit: () => submit({ reason: reason.text(), ...extra?.values() }),
  });
}

function effectsOn(rows, action, now) {
  const effect = h("p", {}, action.accountEffect(rows));
  if (rows.length === 1) return [h("p", {}, h("bdi", {}, action.holderEffect(rows[0], now))), effect];
  const lines = rows.map((row) =>
    h("li", {}, h("strong", {}, row.sandbox_id), " ", h("bdi", {}, action.holderEffect(row, now))));
  return [h("p", {}, "For each of these sandboxes:"), effect, scrollRegion("Chosen sandboxes", h("ul", { class: "chosen" }, lines))];
}

/** The fields besides the reason, by the `needs` of an action: `{field, faults(), values()}`. */
const EXTRA_FIELDS = {
  minutes() {
    const input = h("input", { type: "number", min: "1", max: String(MAX_EXTENSION_MINUTES), step: "1", value: "60" });
    const field = createField({ label: "Minutes from now", hint: "Up to 30 days.", input });
    return {
      field,
      faults: () => (input.value && input.checkValidity() ? [] : [[field, `Enter a whole number from 1 to ${MAX_EXTENSION_MINUTES}.`]]),
      values: () => ({ minutes: Number(input.value) }),
    };
  },
  until(now) {
    const field = createEndField({
      label: "End of the quarantine (optional)",
      hint: "At that time a sandbox that never had a holder is restored, and one that had a holder is deleted. Without it, an operator has to end the quarantine.",
    });
    return {
      field,
      faults: () => field.faults(now),
      values: () => (field.at() === null ? {} : { until: field.at() }),
    };
  },
};
