// Confirms an action with the operator, starts its job, and follows the run.

import { confirm } from "../lib/dialogs.js";
import { h, newId } from "../lib/dom.js";

/** Starts the job of an action. If the job is already running, follows that run, and notifies the operator. */
export async function startJob(action, { api, overview, runs, announce }) {
  const { name, path, params, describe, affectedStatus, isDanger, isBulkRemoval } = action;
  const { counts } = overview.get();
  const option = action.option && optionField(action.option);
  const isConfirmed = await confirm({
    title: `${name}?`,
    body: [h("p", {}, describe(counts)), option?.node],
    action: name,
    isDanger,
    requiredText: isBulkRemoval ? String(counts[affectedStatus]) : null,
    isValid: option?.isValid,
  });
  if (!isConfirmed) return;
  try {
    const { run_id: id } = await api.start(path, { ...params, ...option?.params() });
    runs.follow(id, { isStartedHere: true });
    announce(`${name}: started.`);
  } catch (error) {
    if (api.isClosed()) return; // The operator has signed out in the meantime.
    if (error.runId) runs.follow(error.runId, { isStartedHere: true });
    announce(`${name}: ${error.message}`, { isError: true });
  }
}

function optionField({ label, hint, createInput, params }) {
  const input = createInput();
  input.id = newId("option");
  const hintId = newId("hint");
  input.setAttribute("aria-describedby", hintId);
  const text = h("label", { for: input.id }, label);
  return {
    node: h("div", { class: `option ${input.type}` }, input.type === "checkbox" ? [input, text] : [text, input],
      h("p", { id: hintId, class: "muted" }, hint)),
    params: () => params(input),
    isValid: () => input.reportValidity(),
  };
}
