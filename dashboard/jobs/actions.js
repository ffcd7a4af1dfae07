// What an operator can start, and what each of it means.

import { h, newId } from "../lib/dom.js";
import { plural, sandboxes } from "../lib/format.js";
import { confirm } from "../lib/dialogs.js";

const DEFAULT_GRACE_HOURS = 24;
const LONGEST_GRACE_HOURS = 8760;

/**
 * `describe(counts)` says what happens and to how many; `option` is one input, which gives the parameters; with
 * `removes` as many as it names go at once, and the number has to be typed.
 */
export const ACTIONS = [
  {
    name: "Sync with CSP",
    path: "/admin/sync",
    describe: (counts) => `Puts new CSP accounts into the pool and marks stale what CSP no longer lists. It compares all ${sandboxes(counts.total)}, and writes only what differs.`,
    option: {
      label: "Force: mark stale whatever CSP's list lacks, however much that is",
      hint: "Without it, an empty list, or one that lacks more than half of the pool, marks nothing. Use it only when you have compared with CSP.",
      input: () => h("input", { type: "checkbox" }),
      params: (input) => ({ force: input.checked || null }),
    },
  },
  {
    name: "Clean up",
    path: "/admin/cleanup",
    describe: (counts) => `Deletes from CSP, then from the table, what was given back or expired: ${sandboxes(counts.pending_deletion)} in line, those whose next attempt is due.`,
  },
  {
    name: "Retry failed deletions",
    path: "/admin/cleanup",
    params: { retry_failed: true },
    affected: "deletion_failed",
    describe: (counts) => `Puts ${sandboxes(counts.deletion_failed)} whose deletion failed back in line, then cleans up, with the ${sandboxes(counts.pending_deletion)} in line already.`,
  },
  {
    name: "Expire allocations",
    path: "/admin/auto-expire",
    describe: (counts) => `Retires allocations whose time and grace period are over, of ${plural(counts.allocated, "allocation")}. They wait for deletion then. Nobody loses one whose time still runs.`,
  },
  {
    name: "Remove long stale",
    path: "/admin/auto-delete-stale",
    isDanger: true,
    describe: (counts) => `Removes from the table what has been stale for longer than some hours, which you choose, of ${sandboxes(counts.stale)} that are stale now.`,
    option: {
      label: "Stale for at least, in hours",
      hint: "0 removes all that are stale now.",
      input: () => h("input", { type: "number", min: "0", max: String(LONGEST_GRACE_HOURS), step: "1", value: String(DEFAULT_GRACE_HOURS), required: true }),
      params: (input) => ({ grace_period_hours: input.value }),
    },
  },
  {
    name: "Remove all stale",
    path: "/admin/bulk-delete",
    params: { status: "stale" },
    removes: "stale",
    describe: (counts) => `Removes from the table every sandbox that is stale when it runs; ${sandboxes(counts.stale)} now. There is no way back, but a sync finds again what CSP still lists.`,
  },
  {
    name: "Remove all failed",
    path: "/admin/bulk-delete",
    params: { status: "deletion_failed" },
    removes: "deletion_failed",
    describe: (counts) => `Removes from the table every sandbox whose deletion failed, without asking CSP; ${sandboxes(counts.deletion_failed)} now. What CSP still lists later comes back to be deleted.`,
  },
];

/** Asks, starts the run and follows it; says so if there is one already. */
export async function perform(action, { api, overview, runs, announce }) {
  const { counts } = overview.get();
  const option = action.option && optionField(action.option);
  const isSure = await confirm({
    title: `${action.name}?`,
    body: [h("p", {}, action.describe(counts)), option?.node],
    action: action.name,
    isDanger: Boolean(action.isDanger || action.removes),
    word: action.removes ? String(counts[action.removes]) : null,
    isValid: option?.isValid,
  });
  if (!isSure) return;
  try {
    const { run_id: id } = await api.start(action.path, { ...action.params, ...option?.params() });
    runs.follow(id, { isOurs: true });
    announce(`${action.name}: started.`);
  } catch (error) {
    if (api.isClosed()) return; // Signed out meanwhile.
    if (error.runId) runs.follow(error.runId, { isOurs: true });
    announce(`${action.name}: ${error.message}`, { isFault: true });
  }
}

function optionField({ label, hint, input: make, params }) {
  const input = make();
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
