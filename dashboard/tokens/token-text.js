// Named tokens in words, without the DOM.

import { dateTime, relative } from "../lib/format.js";

const WARNING_SECONDS = 7 * 86_400;

/** The state of a token: `live`, `expiring` within a week, `expired` or `revoked`. */
export function stateOf({ expires_at: expiresAt, revoked_at: revokedAt }, now) {
  if (revokedAt) return "revoked";
  if (!expiresAt) return "live";
  if (expiresAt <= now) return "expired";
  return expiresAt - now < WARNING_SECONDS ? "expiring" : "live";
}

export const isLive = (token, now) => ["live", "expiring"].includes(stateOf(token, now));

/** `revoked by ada at 2026-11-24 19:52`, `expires in 3 d (2026-11-27 19:52)`, `never expires` */
export function stateText({ expires_at: expiresAt, revoked_at: revokedAt, revoked_by: revokedBy }, now) {
  if (revokedAt) return `revoked${revokedBy ? ` by ${revokedBy}` : ""} at ${dateTime(revokedAt)}`;
  if (!expiresAt) return "never expires";
  return `${expiresAt <= now ? "expired" : "expires"} ${relative(expiresAt, now)} (${dateTime(expiresAt)})`;
}

/** `labs dns-101, cloud-201; prefixes lab-`; `everything` for a token without bounds. */
export function boundsText({ labs = [], name_prefixes: prefixes = [] }) {
  const parts = [];
  if (labs.length > 0) parts.push(`labs ${labs.join(", ")}`);
  if (prefixes.length > 0) parts.push(`prefixes ${prefixes.join(", ")}`);
  return parts.join("; ") || "everything";
}

/** Brokers write the time of the last use at most once an hour, so the last use may be later. */
export const lastUseText = ({ last_used_at: at }, now) => (at ? `${relative(at, now)} or later` : "never");

/** Live tokens first, then the newest. */
export function sortTokens(tokens, now) {
  return tokens.toSorted((a, b) => isLive(b, now) - isLive(a, now) || b.created_at - a.created_at || (a.name < b.name ? -1 : 1));
}

/** The effect of the revocation of a token. */
export function revocationText({ role }) {
  return role === "track"
    ? "The scripts of labs that use it can no longer allocate, look at or release sandboxes. Sandboxes that they hold stay allocated until they are released or expire."
    : "People who are signed in with it are signed out, and programs that use it are refused. Its audit records stay.";
}

/** Returns the trimmed lines of a text that are not empty. */
export const linesOf = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
