// Every field of a sandbox: what it is called, and how it reads in the table, in the detail view and in a file.

import { dateTime, exactTime, isoTime, statusName } from "../lib/format.js";
import { idOrder } from "./rows.js";

/** How the deletion of the sandbox's NIOSXaaS services went; nothing if it has not come to that. */
export function niosxaasOutcome(row) {
  if (row.niosxaas_cleaned_at) return "cleaned";
  if (row.niosxaas_cleanup_failed_reason) return "failed";
  if (row.niosxaas_cleanup_skipped) return "skipped";
  return "";
}

function text(key, label, value = (row) => row[key]) {
  const shown = (row) => String(row[key] ?? "");
  return { key, label, value, text: shown, exact: shown, csv: (row) => row[key] };
}

function figure(key, label) {
  return { ...text(key, label), isFigure: true };
}

/** 0 is "never", as null is. */
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

const status = { ...text("status", "Status"), text: (row) => statusName(row.status) };

const outcome = {
  key: "niosxaas_outcome",
  label: "NIOSXaaS",
  value: niosxaasOutcome,
  text: niosxaasOutcome,
};

const id = text("sandbox_id", "Id", (row) => idOrder(row.sandbox_id));
const name = text("name", "Name");
const lab = text("track_name", "Lab");
const caller = text("allocated_to_track", "Caller");
const externalId = text("external_id", "External id");
const allocatedAt = time("allocated_at", "Allocated");
const expiresAt = time("expires_at", "Expires");
const updatedAt = time("updated_at", "Updated");
const requestedAt = time("deletion_requested_at", "Deletion requested");
const reason = text("deletion_error", "Failure reason");
const retries = figure("deletion_retry_count", "Retries");
const sfdc = text("sfdc_account_id", "SFDC id");

/** The columns of the table. */
export const COLUMNS = [
  id, name, status, lab, caller, externalId, allocatedAt, expiresAt, updatedAt, requestedAt, reason, retries, outcome, sfdc,
];

/** What the API says of a sandbox, all of it. */
export const FIELDS = [
  id, name, externalId, status, caller, text("idempotency_key", "Idempotency key"), lab,
  allocatedAt, expiresAt, figure("lab_duration_hours", "Lab duration (hours)"),
  requestedAt, retries, time("next_deletion_at", "Next deletion attempt"), reason,
  time("created_at", "Created in CSP"), updatedAt, time("last_synced", "Last written by a sync"), sfdc,
  time("niosxaas_cleaned_at", "NIOSXaaS cleaned"),
  text("niosxaas_cleanup_skipped", "NIOSXaaS skipped because"),
  text("niosxaas_cleanup_failed_reason", "NIOSXaaS failed because"),
];

const HIDDEN_AT_FIRST = ["external_id", "deletion_requested_at", "niosxaas_outcome", "sfdc_account_id"];

/** The columns that show until somebody chooses others. */
export const FIRST_COLUMNS = COLUMNS.map(({ key }) => key).filter((key) => !HIDDEN_AT_FIRST.includes(key));
