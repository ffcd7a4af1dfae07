// The table of the hours that labs have held their current sandboxes.

import { h, table } from "../lib/dom.js";
import { number, plural } from "../lib/format.js";
import { addressOf } from "../sandboxes/address.js";
import { NO_LAB } from "../sandboxes/rows.js";
import { hoursByLab } from "./allocation-counts.js";

const COLUMNS = ["Lab", "Sandboxes", "Average", "Longest", "Total"];

/** Returns the table for allocated `rows`: all labs together, then the labs with the most hours. */
export function hoursTable(rows, now) {
  const { all, top, rest } = hoursByLab(rows, now);
  const node = table("Hours held, by lab", COLUMNS, [
    line("all labs", all),
    ...top.map((one) => line(labLink(one.lab), one)),
    ...(rest.labs > 0 ? [line(plural(rest.labs, "other lab"), rest)] : []),
  ]);
  node.className = "narrow";
  return node;
}

const line = (label, { count, average, longest, total }) => [label, number(count), ...[average, longest, total].map(hours)];

/** `1,234.5 h` */
const hours = (seconds) => `${number(Math.round(seconds / 360) / 10)} h`;

const labLink = (lab) => h("a", { href: addressOf({ status: "allocated", lab: lab ?? NO_LAB }) }, lab ?? "(no lab)");
