// Asks an operator for the reason and the end of a pause, or for the confirmation that it ends.

import { h, reasonNode } from "../lib/dom.js";
import { askForm, createEndField, createReasonField } from "../lib/form.js";
import { pauseText } from "./activities.js";

const pathOf = ({ key }) => `/admin/pauses/${key}`;

/** Sets a pause, or changes the one that is in force. Resolves to the pause, or to null if the operator cancels. */
export function askToPause({ api, clock }, activity, current) {
  const reason = createReasonField({
    value: current?.reason ?? "",
    hint: "Shown to everybody on every page, and kept in the audit records with your name.",
  });
  const end = createEndField({
    label: "End (optional)",
    hint: "Without it, the pause lasts until somebody ends it.",
    value: current?.until,
  });

  return askForm({
    title: `${current ? "Change the pause of" : "Pause"} ${activity.name.toLowerCase()}`,
    intro: h("p", {}, activity.effect),
    fields: [reason, end],
    action: current ? "Change" : "Pause",
    isDanger: !current,
    check: () => [...reason.faults(), ...end.faults(clock.now())],
    submit: () => api.put(pathOf(activity), { reason: reason.text(), ...(end.at() !== null && { until: end.at() }) }),
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
