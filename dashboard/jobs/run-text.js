// Describes a run in words, without the DOM.

import { duration, number, withTimes } from "../lib/format.js";

const COUNT_NAMES = {
  due: "due",
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
const ALWAYS_SHOWN = new Set(["due", "deleted", "expired", "synced"]);

const JOB_LEASE_SECONDS = 45; // As in the broker: without a heartbeat for this long, another run may take over.

/** Returns the progress from 0 to 1, or null if it is unknown. */
export function progressOf({ job, state, counts = {} }) {
  if (state === "succeeded") return 1;
  if (job === "sync" || !(counts.due > 0)) return null;
  const done = job === "auto-expire" ? counts.expired : (counts.deleted ?? 0) + (counts.failed ?? 0);
  return Math.min(1, (done ?? 0) / counts.due);
}

/** `12 due, 10 deleted, 2 failed` */
export function countsText({ counts }) {
  return Object.entries(COUNT_NAMES)
    .filter(([key]) => counts?.[key] > 0 || (ALWAYS_SHOWN.has(key) && counts?.[key] === 0))
    .map(([key, name]) => `${number(counts[key])} ${name}`)
    .join(", ");
}

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
