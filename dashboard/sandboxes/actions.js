// The actions of an operator on a sandbox: the states that allow each, and its effects on account and holder in words.

import { dateTime, relative, statusName } from "../lib/format.js";

export const MAX_EXTENSION_MINUTES = 30 * 24 * 60; // As in the broker.

/** Whether the sandbox has, or had, a holder, and so is never allocated again. */
export const wasHeld = (row) => Boolean(row.allocated_to_track || row.expires_at);

/** `play-7 of lab dns-101 holds it until 2026-11-27 15:00 (in 2 h).` */
export function holderText(row, now) {
  const { allocated_to_track: caller, track_name: lab, expires_at: expiresAt } = row;
  const holder = `${caller ?? "A caller that is not known"}${lab ? ` of lab ${lab}` : ""}`;
  if (row.status !== "allocated") return wasHeld(row) ? `Nobody holds it; ${holder} held it last.` : "It has never had a holder.";
  if (!expiresAt) return `${holder} holds it.`;
  const time = `${dateTime(expiresAt)} (${relative(expiresAt, now)})`;
  return expiresAt > now ? `${holder} holds it until ${time}.` : `${holder} holds it; its time was over at ${time}.`;
}

const loses = (row, now) => (row.status === "allocated" ? `${holderText(row, now)} It loses the sandbox at once.` : holderText(row, now));

/** The effect of `pending_deletion`. */
const DELETION = "The next cleanup deletes the account from CSP, with everything in it. This cannot be undone.";

/*
 * `name` is the last segment of the endpoint. `allows(row)` returns whether the state of a sandbox allows the action, as
 * far as this page knows: the broker decides. `holderEffect(row, now)` describes the effect on the holder,
 * `accountEffect(rows)` that on the account; `needs` is one more input besides the reason.
 */
export const ACTIONS = [
  {
    name: "release",
    label: "Release",
    isDanger: true,
    allows: ({ status }) => status === "allocated",
    holderEffect: loses,
    accountEffect: () => `It becomes pending deletion. ${DELETION}`,
  },
  {
    name: "extend",
    label: "Extend",
    needs: "minutes",
    allows: ({ status }) => status === "allocated",
    holderEffect: holderText,
    accountEffect: () => "Its holder keeps it at least for the minutes that you enter, counted from now. An allocation that already ends later is refused, and stays as it is.",
  },
  {
    name: "quarantine",
    label: "Quarantine",
    needs: "until",
    isDanger: true,
    allows: ({ status }) => ["provisioning", "available", "stale", "allocated"].includes(status),
    holderEffect: loses,
    accountEffect: (rows) => ["It is set aside: the account stays in CSP as it is, and nobody gets it.", ...afterQuarantine(rows)].join(" "),
  },
  {
    name: "restore",
    label: "Restore",
    allows: (row) => row.status === "quarantined" && !wasHeld(row),
    holderEffect: holderText,
    accountEffect: (rows) => {
      const statuses = new Set(rows.map((row) => row.quarantined_from ?? "stale"));
      return [
        `It becomes ${[...statuses].map(statusName).join(" or ")} again, as it was.`,
        statuses.has("provisioning") && "Its account is checked before it can be allocated; without checks, it becomes available.",
        statuses.has("available") && "Available ones can be allocated at once.",
      ].filter(Boolean).join(" ");
    },
  },
  {
    name: "delete",
    label: "Delete",
    isDanger: true,
    allows: ({ status }) => ["provisioning", "quarantined", "stale", "deletion_failed", "available"].includes(status),
    holderEffect: holderText,
    accountEffect: () => `It becomes pending deletion. ${DELETION}`,
  },
];

function afterQuarantine(rows) {
  const held = rows.filter(wasHeld).length;
  return [
    held < rows.length && "A sandbox that never had a holder can be restored.",
    held > 0 && "One that had a holder can only be deleted.",
  ].filter(Boolean);
}
