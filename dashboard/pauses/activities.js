// The activities that an operator can pause, and pauses in words, without the DOM.

import { dateTime } from "../lib/format.js";

/** `effect` describes the activity during a pause. */
export const ACTIVITIES = [
  {
    key: "allocations",
    name: "Allocations",
    effect: "New allocations are refused with the reason, and the scripts of labs try again. Callers keep the sandboxes that they hold, and a repeated request still returns them.",
  },
  {
    key: "deletions",
    name: "Deletions",
    effect: "The jobs cleanup, auto-delete-stale and bulk-delete: a run in progress stops after its current sandboxes, and a new one does nothing. Released sandboxes stay pending deletion.",
  },
  {
    key: "sync",
    name: "Syncs",
    effect: "The jobs sync and check: new accounts are not added, missing ones are not marked as stale, and no account is checked, so nothing in provisioning becomes available.",
  },
  {
    key: "expiry",
    name: "Expiry",
    effect: "Overdue allocations are not retired: callers keep their sandboxes until they release them or the pause ends.",
  },
  {
    key: "refill",
    name: "Refill",
    effect: "The job refill creates no accounts in CSP. Accounts that exist already are still listed, checked and allocated.",
  },
];

/** The name of an activity; one that this page does not know is shown as it is. */
export const activityName = (activity) => ACTIVITIES.find(({ key }) => key === activity)?.name ?? activity;

/** `since 2026-11-24 19:52 by ada, until 2026-11-24 21:00` */
export function pauseText({ author, since, until }) {
  return `since ${dateTime(since)} by ${author}, ${until ? `until ${dateTime(until)}` : "until somebody ends it"}`;
}
