// The actions that an operator can start: the job behind each one, its parameters, and its description.

import { h } from "../lib/dom.js";
import { plural, sandboxes } from "../lib/format.js";

const DEFAULT_GRACE_HOURS = 24;
const MAX_GRACE_HOURS = 8760;

/**
 * Each action sends a POST to `path` with `params`, and is for people whose `role` suffices.
 * - `describe(counts)` describes the job and states the number of sandboxes.
 * - `option` is one more input, and `option.params(input)` the parameters that it adds.
 * - `job` names the job if it may be off.
 * - `affectedStatus` is the only status that the action is about: without such sandboxes it cannot be started.
 * - `isBulkRemoval`: the job removes all sandboxes of that status in one run; the operator must type their number.
 */
export const ACTIONS = [
  {
    name: "Sync with CSP",
    path: "/admin/sync",
    role: "operator",
    describe: (counts) => `Adds new CSP accounts to the pool, and marks as stale the sandboxes that CSP no longer lists. Compares all ${sandboxes(counts.total)}, and writes only the differences.`,
    option: {
      label: "Force: mark as stale every sandbox that CSP does not list, however many there are",
      hint: "Without it, a sync marks nothing stale if CSP's list is empty or lacks more than half of the pool. Use it only after comparing the pool with CSP.",
      createInput: () => h("input", { type: "checkbox" }),
      params: (input) => ({ force: input.checked || null }),
    },
  },
  {
    name: "Check accounts",
    path: "/admin/check",
    role: "operator",
    job: "check",
    describe: (counts) => `Checks whether the accounts of ${sandboxes(counts.provisioning ?? 0)} in provisioning are usable. One that is becomes available; one that is broken, or not usable for too long, is quarantined. With CHECK_MODE=all, available ones are checked again from time to time.`,
  },
  {
    name: "Plan a refill",
    path: "/admin/refill",
    role: "operator",
    params: { plan: true },
    job: "refill",
    describe: () => "Reports which accounts a refill would create now, pool by pool. Nothing is created.",
  },
  {
    name: "Refill pools",
    path: "/admin/refill",
    role: "operator",
    job: "refill",
    describe: () => "Creates accounts in CSP for the pools of the policy that are below their target, at most REFILL_BATCH of them. Tries again at once where CSP has refused new accounts. The next sync adds them to the pool. With REFILL_MODE=plan it only reports.",
  },
  {
    name: "Clean up",
    path: "/admin/cleanup",
    role: "operator",
    describe: (counts) => `Deletes released and expired sandboxes from CSP, then from the table: ${sandboxes(counts.pending_deletion)} pending deletion, except those whose next attempt is scheduled for later.`,
  },
  {
    name: "Retry failed deletions",
    path: "/admin/cleanup",
    role: "operator",
    params: { retry_failed: true },
    affectedStatus: "deletion_failed",
    describe: (counts) => `Requeues ${sandboxes(counts.deletion_failed)} whose deletion failed, then cleans up, including the ${sandboxes(counts.pending_deletion)} already pending deletion.`,
  },
  {
    name: "Expire allocations",
    path: "/admin/auto-expire",
    role: "operator",
    describe: (counts) => `Retires overdue allocations, whose duration and grace period are over, out of ${plural(counts.allocated, "allocation")}. Their sandboxes become pending deletion. Other allocations are not affected.`,
    option: {
      label: "Force: retire every overdue allocation, however many there are",
      hint: "Without it, overdue allocations that are more than half of all wait for a second run ten minutes later, because a clock may be wrong. Use it only after checking the clock of the broker.",
      createInput: () => h("input", { type: "checkbox" }),
      params: (input) => ({ force: input.checked || null }),
    },
  },
  {
    name: "Remove long stale",
    path: "/admin/auto-delete-stale",
    role: "operator",
    isDanger: true,
    describe: (counts) => `Removes from the table the sandboxes that have been stale for at least the number of hours that you choose, out of ${sandboxes(counts.stale)} stale now.`,
    option: {
      label: "Stale for at least, in hours",
      hint: "0 removes all that are stale now.",
      createInput: () => h("input", {
        type: "number", min: "0", max: String(MAX_GRACE_HOURS), step: "1", value: String(DEFAULT_GRACE_HOURS), required: true,
      }),
      params: (input) => ({ grace_period_hours: input.value }),
    },
  },
  {
    name: "Remove all stale",
    path: "/admin/bulk-delete",
    role: "admin",
    params: { status: "stale" },
    affectedStatus: "stale",
    isBulkRemoval: true,
    isDanger: true,
    describe: (counts) => `Removes from the table every sandbox that is stale when the job runs; ${sandboxes(counts.stale)} now. This cannot be undone, but a sync adds again the accounts that CSP still lists.`,
  },
  {
    name: "Remove all failed",
    path: "/admin/bulk-delete",
    role: "admin",
    params: { status: "deletion_failed" },
    affectedStatus: "deletion_failed",
    isBulkRemoval: true,
    isDanger: true,
    describe: (counts) => `Removes from the table every sandbox whose deletion failed, without calling CSP; ${sandboxes(counts.deletion_failed)} now. Accounts that CSP still lists resurface later, and are deleted then.`,
  },
];
