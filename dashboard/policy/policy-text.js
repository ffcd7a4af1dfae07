// Versions and changes of the policy in words, without the DOM.

import { exactTime, number, plural } from "../lib/format.js";

/** `version 3 by ada at 2026-11-24 19:52:07` */
export const versionText = ({ version, author, at }) => `version ${version} by ${author} at ${exactTime(at)}`;

/** A value of a change in words. */
export function valueText(value) {
  if (value === null || value === undefined) return "none";
  if (typeof value === "string") return value;
  return isSchedule(value) ? scheduleText(value) : JSON.stringify(value);
}

const isSchedule = ({ from, to, target_available: target }) => Boolean(from && to) && target !== undefined;

/** `60 available from 2026-11-28T10:00:00 to 2026-11-28T12:00:00 (Europe/Berlin), created from 90 minutes before` */
function scheduleText({ from, to, target_available: target, time_zone: zone, lead_minutes: lead }) {
  const ahead = lead === undefined || lead === null ? "" : `, created from ${plural(lead, "minute")} before`;
  return `${number(target)} available from ${from} to ${to}${zone ? ` (${zone})` : ""}${ahead}`;
}

/** `1 change to version 3`, `no changes to version 3` */
export const changesText = (changes, version) => `${changes.length === 0 ? "no changes" : plural(changes.length, "change")} to version ${version}`;
