// What a run says of itself. No DOM here.

import { duration, number } from "../lib/format.js";

const COUNT_NAMES = {
  due: "due",
  deleted: "deleted",
  expired: "expired",
  failed: "failed",
  deferred: "deferred",
  requeued: "put back in line",
  niosxaas_cleaned: "NIOSXaaS cleaned",
  niosxaas_failed: "NIOSXaaS failed",
  synced: "listed by CSP",
  inserted: "inserted",
  updated: "updated",
  restored: "restored",
  marked_stale: "marked stale",
  reinstated: "reinstated",
  skipped: "skipped",
  duplicates: "duplicates",
  unreadable: "unreadable",
};

// Of these a zero is news; of the others it is noise.
const ALWAYS = new Set(["due", "deleted", "expired", "synced"]);

const STALE_AFTER = 45; // Seconds after which the lease of a silent run is free.

/** How much is done, from 0 to 1; null if nobody can tell. */
export function progressOf({ job, state, counts = {} }) {
  if (state === "succeeded") return 1;
  if (job === "sync" || !(counts.due > 0)) return null;
  const done = job === "auto-expire" ? counts.expired : (counts.deleted ?? 0) + (counts.failed ?? 0);
  return Math.min(1, (done ?? 0) / counts.due);
}

/** `12 due, 10 deleted, 2 failed` */
export function countsText({ counts }) {
  return Object.entries(COUNT_NAMES)
    .filter(([key]) => counts?.[key] > 0 || (ALWAYS.has(key) && counts?.[key] === 0))
    .map(([key, name]) => `${number(counts[key])} ${name}`)
    .join(", ");
}

/** Whether it should have been heard of since, because it writes down every few seconds how far it is. */
export const isSilent = ({ state, updated_at: updatedAt }, now) => state === "running" && now - updatedAt > STALE_AFTER;

/** What people should know beside the counts. */
export function notesOf(run, now) {
  const { error, updated_at: updatedAt, counts = {} } = run;
  const notes = [];
  if (error) notes.push(error);
  if (counts.stopped) notes.push(`Stopped early: ${withTimes(counts.stopped)}`);
  if (counts.stale_guard) notes.push(`Nothing was marked stale: ${counts.stale_guard}`);
  if (isSilent(run, now)) {
    notes.push(`Not heard of for ${duration(now - updatedAt)}: its broker may have died. The next run takes over.`);
  }
  return notes;
}

/** The broker writes moments as Unix seconds; people read the time of the day. */
export function withTimes(text) {
  return text.replace(/\b1\d{9}\b/g, (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB"));
}

/** How long it took, or takes. */
export function runDuration(run, now) {
  return duration((run.finished_at ?? now) - run.started_at);
}
