// The state of a pool in words, and the order in which pools are shown, without the DOM.

import { dateTime, duration, number, relative, withTimes } from "../lib/format.js";

/** The states of a pool, those that need attention first: the name of each, and the CSS class of its pill. */
const STATES = {
  stopped: { name: "stopped", kind: "failed" },
  late: { name: "late", kind: "failed" },
  at_maximum: { name: "at its maximum", kind: "paused" },
  filling: { name: "filling", kind: "running" },
  full: { name: "full", kind: "succeeded" },
  watched: { name: "watched", kind: "" },
};

const ORDER = Object.keys(STATES);
const NEEDING_ATTENTION = new Set(["stopped", "late", "at_maximum"]);

/** Whether somebody should look at a pool: it does not reach its target by itself, or has nothing to allocate. */
export const needsAttention = ({ state, target, available }) =>
  NEEDING_ATTENTION.has(state) || (target > 0 && available === 0);

/** The name of a state; one that this page does not know is shown as it is. */
export const stateName = (state) => STATES[state]?.name ?? state;

/** The CSS class of the pill of a state. */
export const stateKind = (state) => STATES[state]?.kind ?? "";

/** Returns the pools, those that need attention first, then by state and name. */
export function sortPools(pools) {
  const rank = (pool) => {
    const known = ORDER.indexOf(pool.state);
    return (needsAttention(pool) ? 0 : ORDER.length + 1) + (known < 0 ? ORDER.length : known);
  };
  return pools.toSorted((a, b) => rank(a) - rank(b) || (a.name_prefix < b.name_prefix ? -1 : 1));
}

/** `900 full, 88 watched` */
export function countsByState(pools) {
  const counts = new Map();
  for (const { state } of sortPools(pools)) counts.set(state, (counts.get(state) ?? 0) + 1);
  return [...counts].map(([state, count]) => `${number(count)} ${stateName(state)}`).join(", ");
}

/** `since 2026-11-24 19:52 (4 min ago)`; empty if the time is not known. */
const sinceText = (since, now) => (since ? `since ${dateTime(since)} (${relative(since, now)})` : "");

/** Returns the state of a pool, its reason, and what to do about it, as sentences. */
export function stateTexts({ state, reason, since, mode }, now) {
  const because = [sinceText(since, now), reason && withTimes(reason)].filter(Boolean).join(": ");
  const sentence = (text) => `${[text, because].filter(Boolean).join(" ").replace(/\.$/, "")}.`;
  switch (state) {
    case "stopped":
      return [
        sentence("Refill of this pool is stopped"),
        "Correct what the message names, such as the create table of the pool in the policy, or the rights or the quota of the API key in CSP. One creation is tried again every 15 minutes, and at once when the policy changes or somebody starts refill. If it succeeds, the pool is filled.",
      ];
    case "late":
      return [
        sentence("Below its target for longer than a creation takes,"),
        "Look at the last runs of refill, sync and check, at the pauses, and at the sandboxes that are warming up or quarantined.",
      ];
    case "at_maximum":
      return [
        sentence("Below its target, and at its maximum"),
        "Nothing is created until sandboxes are deleted or the policy states a larger max_total.",
      ];
    case "filling":
      return [sentence("Below its target"), FILLING[mode]].filter(Boolean);
    case "full":
      return [sentence("It has its target")];
    case "watched":
      return ["It is only watched: nothing creates accounts for it. Refill does if REFILL_MODE is on and the pool has a create table in the policy."];
    default:
      return because ? [sentence("")] : [];
  }
}

/** The work of refill on a pool below its target, by its mode. */
const FILLING = {
  on: "Accounts are being created, or will be by the next runs of refill.",
  plan: "Refill only reports what it would create, because REFILL_MODE is plan.",
};

/** The mode of refill in words; one that this page does not know is shown as it is. */
export const modeText = (mode) => ({
  off: "off: nothing is created",
  plan: "plan: it reports what it would create",
  on: "on",
})[mode] ?? mode;

/** `50`; with a schedule `60 until 2026-11-28 12:00 by a schedule, otherwise 50`. */
export function targetText({ target, target_available: usual, schedule }) {
  if (!schedule) return number(target);
  const from = schedule.from ? `from ${dateTime(schedule.from)} ` : "";
  return `${number(schedule.target_available ?? target)} ${from}until ${dateTime(schedule.to)} by a schedule, otherwise ${number(usual ?? 0)}`;
}

/** `98 of at most 120`, `130, 10 more than its maximum of 120`, `98, without a maximum` */
export function totalText({ total, max_total: most }) {
  if (most === null || most === undefined) return `${number(total)}, without a maximum`;
  if (total > most) return `${number(total)}, ${number(total - most)} more than its maximum of ${number(most)}`;
  return `${number(total)} of at most ${number(most)}`;
}

/** `6 min`, or that it is not known yet. */
export const timeToAvailableText = (seconds) => (seconds === null || seconds === undefined ? "not known yet" : duration(seconds));
