// The fields of a sandbox: their labels, and their text in the table, in the details dialog and in the CSV file.

import { dateTime, duration, exactTime, isoTime, statusName } from "../lib/format.js";
import { addressOfSandbox } from "./address.js";
import { idOrder } from "./rows.js";
import { hasEnd, timeLeftText } from "./time-left.js";

/** Returns the outcome of deleting the sandbox's NIOSXaaS services; empty before the first attempt. */
export function niosxaasOutcome(row) {
  if (row.niosxaas_cleaned_at) return "cleaned";
  if (row.niosxaas_cleanup_failed_reason) return "failed";
  if (row.niosxaas_cleanup_skipped) return "skipped";
  return "";
}

/*
 * A field has the `key` of the API, a `label`, and these functions of a row: `value` (sort key), `text` (in the table),
 * `exact` (in the details) and `csv`. `href`, if it has one, returns where its text leads. The text of one that `isLive`
 * changes with the time `{now, grace}`, its second argument, and its `title` states that exactly.
 */

function text(key, label, value = (row) => row[key]) {
  const shown = (row) => String(row[key] ?? "");
  return { key, label, value, text: shown, exact: shown, csv: (row) => row[key] };
}

function figure(key, label) {
  return { ...text(key, label), isFigure: true };
}

/** A time in Unix seconds; 0 and null both mean "never". */
function time(key, label) {
  return {
    key,
    label,
    value: (row) => row[key] || null,
    text: (row) => dateTime(row[key]),
    exact: (row) => exactTime(row[key]),
    csv: (row) => isoTime(row[key]),
    isTime: true,
  };
}

/** The id of another sandbox, which leads to its details. */
function sandbox(key, label) {
  return { ...text(key, label, (row) => row[key] && idOrder(row[key])), href: (row) => row[key] && addressOfSandbox(row[key]) };
}

const id = text("sandbox_id", "Id", (row) => idOrder(row.sandbox_id));
const name = text("name", "Name");
const statusText = (row) => statusName(row.status);
const status = { ...text("status", "Status"), text: statusText, exact: statusText };
const lab = text("track_name", "Lab");
const caller = text("allocated_to_track", "Caller");
const idempotencyKey = text("idempotency_key", "Idempotency key");
const externalId = text("external_id", "External id");
const allocatedAt = time("allocated_at", "Allocated");
const expiresAt = time("expires_at", "Expires");
const extensions = { ...figure("extensions", "Extended"), text: (row) => (row.extensions ? `${row.extensions} ×` : "") };
const extendedAt = time("extended_at", "Last extended");
const namePrefix = text("name_prefix", "Name prefix of the allocation");
const replaces = sandbox("replaces", "Replaces");
const replacedBy = sandbox("replaced_by", "Replaced by");
const replacementReason = text("replacement_reason", "Reason of the replacement");
const labDuration = figure("lab_duration_hours", "Lab duration (hours)");
const createdAt = time("created_at", "Created in CSP");
const updatedAt = time("updated_at", "Updated");
const requestedAt = time("deletion_requested_at", "Deletion requested");
const reason = text("deletion_error", "Failure reason");
const quarantineReason = text("quarantine_reason", "Quarantine reason");
const usableAt = time("usable_at", "Usable since");
const checkedAt = time("checked_at", "Last check");
const nextCheckAt = time("next_check_at", "Next check");
const checkFailures = figure("check_failures", "Failed checks in a row");
const checkError = text("check_error", "Check error");
const retries = figure("deletion_retry_count", "Retries");
const sfdc = text("sfdc_account_id", "SFDC id");

const unusableText = (row) => (row.unusable_seconds ? duration(row.unusable_seconds) : "");
const unusableFor = { ...figure("unusable_seconds", "Observed as not usable for"), text: unusableText, exact: unusableText };

const quarantinedFromText = (row) => (row.quarantined_from ? statusName(row.quarantined_from) : "");
const quarantinedFrom = { ...text("quarantined_from", "Status before the quarantine"), exact: quarantinedFromText };

/** A column of the table only: the API has no such field. */
const outcome = { key: "niosxaas_outcome", label: "NIOSXaaS", value: niosxaasOutcome, text: niosxaasOutcome };

/** A column of the table only: a CSV file has the end of the allocation, which stays true. */
const timeLeft = {
  key: "time_left",
  label: "Time left",
  isLive: true,
  value: (row) => (hasEnd(row) ? row.expires_at : null),
  text: timeLeftText,
  title: (row) => (hasEnd(row) ? exactTime(row.expires_at) : ""),
};

/** The columns of the table. */
export const COLUMNS = [
  id, name, status, lab, caller, idempotencyKey, externalId, allocatedAt, timeLeft, expiresAt, extensions, labDuration,
  createdAt, updatedAt, usableAt, checkedAt, checkFailures, checkError, replaces, replacedBy, replacementReason, requestedAt,
  reason, retries, quarantineReason, outcome, sfdc,
];

/** All fields that the API returns, for the details and the CSV file. */
export const FIELDS = [
  id, name, externalId, status, caller, idempotencyKey, lab,
  allocatedAt, expiresAt, extensions, extendedAt, labDuration, namePrefix, replaces, replacedBy, replacementReason,
  requestedAt, text("released_by", "Released by"), time("released_at", "Released by its holder"), retries,
  time("next_deletion_at", "Next deletion attempt"), reason,
  text("quarantined_by", "Quarantined by"), time("quarantined_at", "Quarantined"), quarantineReason,
  time("quarantined_until", "End of the quarantine"), quarantinedFrom,
  usableAt, checkedAt, nextCheckAt, checkFailures, unusableFor, checkError,
  createdAt, time("inserted_at", "Added to the pool"), updatedAt, time("last_synced", "Last written by a sync"), sfdc,
  time("niosxaas_cleaned_at", "NIOSXaaS cleaned"),
  text("niosxaas_cleanup_skipped", "NIOSXaaS skipped because"),
  text("niosxaas_cleanup_failed_reason", "NIOSXaaS failed because"),
];

const HIDDEN_BY_DEFAULT = [
  "idempotency_key", "external_id", "lab_duration_hours", "replaces", "created_at", "usable_at", "checked_at", "check_failures",
  "deletion_requested_at", "niosxaas_outcome", "sfdc_account_id",
];

/** The keys of the columns that are visible until the operator chooses others. */
export const DEFAULT_COLUMN_KEYS = COLUMNS.map(({ key }) => key).filter((key) => !HIDDEN_BY_DEFAULT.includes(key));
