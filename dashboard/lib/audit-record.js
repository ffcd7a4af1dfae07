// One audit record, or one event in the timeline of a sandbox, in words.

import { h, reasonNode } from "./dom.js";
import { exactTime, isoTime, relative, statusName } from "./format.js";

const ACTION_NAMES = {
  "sandbox.release": "Release by an operator",
  "sandbox.extend": "Extension",
  "sandbox.quarantine": "Quarantine",
  "sandbox.quarantine_end": "Quarantine ended",
  "sandbox.restore": "Restore",
  "sandbox.delete": "Deletion requested",
  "sandbox.to_fastapi": "Converted for the FastAPI service",
  "policy.set": "Policy applied",
  "pause.set": "Pause",
  "pause.end": "Pause ended",
  "job.start": "Job started",
  "token.create": "Token created",
  "token.revoke": "Token revoked",
  "request": "Request",
};

/** The actions of audit records. */
export const ACTIONS = Object.keys(ACTION_NAMES);

/** The events that are derived from the state of a sandbox. */
const EVENT_NAMES = {
  inserted: "Inserted by a sync",
  usable: "Found usable by a check",
  allocated: "Allocated",
  extended: "Extended by its caller",
  replaced: "Replaced at the request of its caller",
  released: "Released by its caller",
  expired: "Expired",
  deletion_failed_attempt: "Deletion attempt failed",
  deletion_failed: "Deletion given up",
  marked_stale: "Marked as stale",
  reinstated: "Reinstated, because CSP listed it after its deletion",
  deleted: "Deleted",
};

const FIELD_NAMES = {
  allocated_to_track: "caller", track_name: "lab", expires_at: "expiry", quarantined_until: "end of the quarantine", until: "end",
};

/** The name of an action or event; one that this page does not know is shown in words: `sandbox.heal` is "Sandbox heal". */
export function actionName(action) {
  const words = action.replace(/[._]/g, " ");
  return ACTION_NAMES[action] ?? EVENT_NAMES[action] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

/** `ada (operator)`; the broker itself has neither a name nor a role. */
export function actorText({ actor, role }) {
  return actor ? `${actor}${role ? ` (${role})` : ""}` : "broker";
}

/** Returns the outcome as a pill: `done`, or the code of the refusal. */
export function outcomePill(outcome) {
  const isDone = outcome === "done";
  return h("span", { class: `pill ${isDone ? "succeeded" : "failed"}` }, isDone ? outcome : `refused: ${outcome}`);
}

/** Returns a text for each value that changed: `status: allocated → pending deletion`. */
export function changeTexts({ before, after }) {
  const keys = new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})]);
  return [...keys].flatMap((key) => {
    const [old, now] = [valueText(key, before?.[key]), valueText(key, after?.[key])];
    if (old === now) return [];
    return [before ? `${fieldName(key)}: ${old} → ${now}` : `${fieldName(key)}: ${now}`];
  });
}

/** `deletion requested at` */
export const fieldName = (key) => FIELD_NAMES[key] ?? key.replaceAll("_", " ");

/** Returns a value in words: times and statuses by the name of their field. */
export function valueText(key, value) {
  if (value === null || value === undefined || value === "") return "none";
  if (/(_at|until|since)$/.test(key)) return exactTime(value) || "never";
  if (/(^|_)status$|^quarantined_from$/.test(key)) return statusName(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Returns a record as an item of a list, for a timeline of one target. `now` is in Unix seconds. */
export function recordItem(record, now) {
  const { at, action, actor, outcome, reason, request_id: requestId, address } = record;
  const request = [requestId && `request ${requestId}`, address && `from ${address}`].filter(Boolean).join(" ");
  return h("li", { class: "record" },
    h("p", { class: "record-head" },
      h("time", { datetime: isoTime(at) }, `${exactTime(at)} (${relative(at, now)})`),
      h("strong", {}, actionName(action)),
      actor && h("span", {}, "by ", h("bdi", {}, actorText(record))),
      outcome && outcome !== "done" && outcomePill(outcome)),
    reason && h("p", {}, "Reason: ", reasonNode(reason)),
    changeTexts(record).map((text) => h("p", { class: "muted" }, h("bdi", {}, text))),
    request && h("p", { class: "muted" }, h("small", {}, request)));
}

const column = (key, csv = (record) => record[key]) => ({ key, csv });
const json = (value) => (value ? JSON.stringify(value) : null);

/** The columns of a CSV file of records. */
export const RECORD_COLUMNS = [
  column("at", ({ at }) => isoTime(at)),
  ...["actor", "role", "action", "target", "outcome", "reason"].map((key) => column(key)),
  column("before", ({ before }) => json(before)),
  column("after", ({ after }) => json(after)),
  ...["request_id", "address"].map((key) => column(key)),
];
