// Asks an operator for the reason and the end of a pause, or for the confirmation that it ends.

import { h, reasonNode } from "../lib/dom.js";
import { askForm, createField, createReasonField } from "../lib/form.js";
import { fromLocalInput, toLocalInput } from "../lib/local-time.js";
import { pauseText } from "./activities.js";

const pathOf = ({ key }) => `/admin/pauses/${key}`;

/** Sets a pause, or changes the one that is in force. Resolves to the pause, or to null if the operator cancels. */
export function askToPause({ api, clock }, activity, current) {
  const reason = createReasonField({
    value: current?.reason ?? "",
    hint: "Shown to everybody on every page, and kept in the audit records with your name.",
  });
  const end = createField({
    label: "End (optional)",
    hint: "Without it, the pause lasts until somebody ends it.",
    input: h("input", { type: "datetime-local", value: toLocalInput(current?.until) }),
  });

  function check() {
    const faults = [];
    const until = fromLocalInput(end.input.value);
    if (!reason.input.value.trim()) faults.push([reason, "Enter the reason."]);
    if (end.input.validity.badInput) faults.push([end, "Complete the date and the time, or clear both."]);
    else if (until !== null && until <= clock.now()) faults.push([end, "Enter a time in the future, or none."]);
    return faults;
  }

  return askForm({
    title: `${current ? "Change the pause of" : "Pause"} ${activity.name.toLowerCase()}`,
    intro: h("p", {}, activity.effect),
    fields: [reason, end],
    action: current ? "Change" : "Pause",
    isDanger: !current,
    check,
    submit: () => {
      const until = fromLocalInput(end.input.value);
      return api.put(pathOf(activity), { reason: reason.input.value.trim(), ...(until !== null && { until }) });
    },
    fieldOf: ({ message }) => (/\buntil\b/.test(message) ? end : /\breason\b/.test(message) ? reason : null),
  });
}

/** Ends a pause. Resolves to true, or to null if the operator cancels. */
export function askToResume({ api }, activity, current) {
  return askForm({
    title: `End the pause of ${activity.name.toLowerCase()}?`,
    intro: [
      h("p", {}, "Paused ", h("bdi", {}, pauseText(current)), ": ", reasonNode(current.reason)),
      h("p", {}, "They go on within five seconds on every broker."),
    ],
    fields: [],
    action: "End the pause",
    isDanger: true,
    submit: async () => {
      await api.delete(pathOf(activity));
      return true;
    },
  });
}
