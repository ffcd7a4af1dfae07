// Texts about allocations whose play is likely over, and their selection by lab, without the DOM.

import { duration, number, plural, sandboxes } from "../lib/format.js";
import { NO_LAB } from "../sandboxes/rows.js";

/** Returns a leak as a row of the tables and forms of sandboxes. */
export const rowOf = (leak) => ({
  ...leak, status: "allocated", allocated_to_track: leak.caller, track_name: leak.lab,
});

/** `2 h 30 min, usually 55 min`; without a usual duration `4 h 10 min, was to end after 4 h`. */
export function heldText({ held_sec: held, usual_sec: usual, basis }) {
  const compared = basis === "history" ? `usually ${duration(usual)}` : `was to end after ${duration(usual)}`;
  return `${duration(held)}, ${compared}`;
}

const labOf = ({ lab }) => lab ?? NO_LAB;

/** Returns the rows of a lab; of all labs if it is empty. */
export const ofLab = (rows, lab) => (lab ? rows.filter((row) => labOf(row) === lab) : rows);

/** Returns the labs of the rows, those with the most first, as `{value, label}`. */
export function labOptions(rows) {
  const counts = new Map();
  for (const row of rows) counts.set(labOf(row), (counts.get(labOf(row)) ?? 0) + 1);
  return [...counts]
    .sort(([a, count], [b, other]) => other - count || (a < b ? -1 : 1))
    .map(([value, count]) => ({ value, label: `${value === NO_LAB ? "(no lab)" : value} (${number(count)})` }));
}

/** `12 sandboxes of 2 labs: held for longer than usual.` */
export function summaryText(rows) {
  if (rows.length === 0) return "No sandbox has been held for longer than is usual for its lab.";
  const labs = new Set(rows.map(labOf)).size;
  return `${sandboxes(rows.length)} of ${plural(labs, "lab")}: held for longer than usual.`;
}

/** Returns the cells of the table of usual durations. */
export const labCells = ({ lab, durations, usual_sec: usual, suspected_after_sec: suspected }) => [
  lab,
  number(durations),
  usual === null ? "not known yet" : duration(usual),
  suspected === null ? "after its end" : `after ${duration(suspected)}`,
];
