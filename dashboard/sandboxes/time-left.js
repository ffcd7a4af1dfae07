// The time that the holder of a sandbox has left, in words.

import { duration } from "../lib/format.js";

/** Whether a sandbox has a holder whose time ends. */
export const hasEnd = ({ status, expires_at: expiresAt }) => status === "allocated" && Boolean(expiresAt);

/**
 * `2 h 5 min`; after the end `in grace, 3 min left`, and `overdue for 2 min` once the grace period is over, too; empty for a
 * sandbox without a holder. `grace` is in seconds, and null if it is not known.
 */
export function timeLeftText(row, { now, grace }) {
  if (!hasEnd(row)) return "";
  const left = row.expires_at - now;
  if (left >= 0) return duration(left);
  if (grace === null) return `ended ${duration(-left)} ago`;
  return left + grace >= 0 ? `in grace, ${duration(left + grace)} left` : `overdue for ${duration(-left - grace)}`;
}
