// Describes a run in words, without the DOM.

import { duration, number, plural, withTimes } from "../lib/format.js";

const COUNT_NAMES = {
  due: "due",
  usable: "usable",
  not_yet: "not usable yet",
  quarantined: "quarantined",
  created: "created",
  adopted: "adopted",
  unanswered: "without an answer",
  dropped: "dropped",
  deleted: "deleted",
  expired: "expired",
  quarantines_ended: "quarantines ended",
  failed: "failed",
  deferred: "deferred",
  requeued: "requeued",
  niosxaas_cleaned: "NIOSXaaS cleaned",
  niosxaas_failed: "NIOSXaaS failed",
  synced: "listed by CSP",
  inserted: "inserted",
  updated: "updated",
  provided: "made available without a check",
  restored: "restored",
  marked_stale: "marked stale",
  quarantined_missing: "quarantined, but not listed",
  reinstated: "reinstated",
  skipped: "skipped",
  duplicates: "duplicates",
  unnumbered: "without a number yet",
  unreadable: "unreadable",
  claims_written: "claims written",
};

// These counts are shown even if they are 0.
const ALWAYS_SHOWN = new Set(["due", "deleted", "expired", "synced", "created"]);

/** The counts that are parts of the count `due`, by job; `deleted` and `failed` for the others. */
const DONE = {
  "auto-expire": ["expired"],
  check: ["usable", "not_yet", "failed", "quarantined"],
};

const JOB_LEASE_SECONDS = 45; // As in the broker: without a heartbeat for this long, another run may take over.

/** Returns the progress from 0 to 1, or null if it is unknown. */
export function progressOf({ job, state, counts = {} }) {
  if (state === "succeeded") return 1;
  if (job === "sync" || !(counts.due > 0)) return null;
  const done = (DONE[job] ?? ["deleted", "failed"]).reduce((sum, key) => sum + (counts[key] ?? 0), 0);
  return Math.min(1, done / counts.due);
}

/** `12 due, 10 deleted, 2 failed`; of a refill that only plans, `3 accounts would be created` */
export function countsText({ counts }) {
  if (counts?.plan) return `${plural(plannedCreations(counts), "account")} would be created`;
  return Object.entries(COUNT_NAMES)
    .filter(([key]) => counts?.[key] > 0 || (ALWAYS_SHOWN.has(key) && counts?.[key] === 0))
    .map(([key, name]) => `${number(counts[key])} ${name}`)
    .join(", ");
}

const plannedCreations = ({ pools = [] }) => pools.reduce((sum, { creations }) => sum + creations, 0);

/** Whether a running job has missed its heartbeats for longer than its lease. */
export const isSilent = ({ state, updated_at: updatedAt }, now) =>
  state === "running" && now - updatedAt > JOB_LEASE_SECONDS;

/** Returns the error of a run and other notes that the counts do not show. */
export function notesOf(run, now) {
  const { error, updated_at: updatedAt, counts = {} } = run;
  const notes = [];
  if (error) notes.push(error);
  if (counts.stopped) notes.push(`Stopped early: ${withTimes(counts.stopped)}`);
  if (counts.stale_guard) notes.push(`Nothing was marked stale: ${counts.stale_guard}`);
  if (counts.recheck_guard) notes.push(`Sandboxes were kept out of quarantine: ${withTimes(counts.recheck_guard)}`);
  if (counts.expiry_guard) notes.push(`Nothing was retired: ${withTimes(counts.expiry_guard)}`);
  if (isSilent(run, now)) {
    notes.push(`No heartbeat for ${duration(now - updatedAt)}: its broker may have died. The next run takes over.`);
  }
  return notes;
}

/** Returns how long a run took, or has taken so far. */
export function runDuration(run, now) {
  return duration((run.finished_at ?? now) - run.started_at);
}
