// The forecast of a pool in words, without the DOM.

import { dateTime, number } from "../lib/format.js";

/** Returns the forecasts, those that lack most first. */
export function sortForecasts(pools) {
  const missing = ({ shortfall }) => shortfall?.missing ?? 0;
  return pools.toSorted((a, b) => missing(b) - missing(a) || (a.name_prefix < b.name_prefix ? -1 : 1));
}

/** `60, by the schedule until 2026-11-28 12:00` */
export function targetText({ target, schedule }) {
  return schedule ? `${number(target)}, by the schedule until ${dateTime(schedule.to)}` : number(target);
}

/** `yes`; `no, 12 are missing: <why>; reached at 2026-11-28 12:00` */
export function shortfallText({ shortfall }) {
  if (!shortfall) return "yes";
  const { missing, reason, reached_at: at } = shortfall;
  const why = reason.replace(/\.$/, "");
  return `no, ${number(missing)} ${missing === 1 ? "is" : "are"} missing: ${why}. ${at ? `Reached at ${dateTime(at)}.` : "Not reached within a week."}`;
}
