// The author of a quarantine in words, without the DOM.

import { number } from "../lib/format.js";

/** The name that the job has as the author of a quarantine. */
const CHECK = "check";

/** The groups of authors of quarantines. */
export const GROUPS = [
  { key: "check", label: "the check of accounts" },
  { key: "replacement", label: "a replacement" },
  { key: "operator", label: "an operator" },
];

/** Returns the key of the group that set a sandbox aside. */
export function groupOf({ quarantined_by: by, quarantined_from: from, replaced_by: replacedBy }) {
  if (by === CHECK) return "check";
  return from === "allocated" && replacedBy ? "replacement" : "operator";
}

/** `the check of accounts`, `a replacement for play-7 (ci)`, `ada` */
export function setAsideText(row) {
  const { quarantined_by: by, allocated_to_track: caller } = row;
  switch (groupOf(row)) {
    case "check": return "the check of accounts";
    case "replacement": return `a replacement${caller ? ` for ${caller}` : ""}${by ? ` (${by})` : ""}`;
    default: return by ?? "not known";
  }
}

/** `3 by the check of accounts, 9 by an operator` */
export function countsText(rows) {
  return GROUPS.map(({ key, label }) => ({ label, count: rows.filter((row) => groupOf(row) === key).length }))
    .filter(({ count }) => count > 0)
    .map(({ label, count }) => `${number(count)} by ${label}`)
    .join(", ");
}
