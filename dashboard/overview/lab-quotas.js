// The labs that the policy names: the sandboxes that each holds now, its quota, and its longest lease.

import { fill, h, scrollRegion, section, table } from "../lib/dom.js";
import { duration, number } from "../lib/format.js";
import { addressOf } from "../sandboxes/address.js";
import { longestLeaseByLab } from "./allocation-counts.js";

const COLUMNS = ["Lab", "Held", "Quota", "Longest lease"];
/** Whether an entry is the sum of the labs that the policy does not name. */
const isSum = ({ lab, max_held: quota }) => lab === "other" && quota === null;

/** Returns `{node, update(labs), updateLeases(rows)}`: the labs are those of the overview, the rows the allocated sandboxes. */
export function labQuotas() {
  const region = scrollRegion("Labs");
  const node = section("Labs",
    h("p", { class: "muted" }, "The labs that the policy names, and the sandboxes that they hold. A lease lasts from the allocation to its end, with extensions."),
    region);
  let labs = [];
  let leases = new Map();

  function draw() {
    node.hidden = labs.length === 0;
    // A table that is drawn again would lose the focus of a link.
    if (region.querySelector(":focus")) return;
    const content = table("Labs", COLUMNS, labs.map((lab) => line(lab, leases)));
    content.className = "narrow";
    fill(region, content);
  }

  return {
    node,
    update(next) {
      labs = next.toSorted((a, b) => isSum(a) - isSum(b) || b.held - a.held || (a.lab < b.lab ? -1 : 1));
      draw();
    },
    updateLeases(rows) {
      leases = longestLeaseByLab(rows);
      draw();
    },
  };
}

function line(entry, leases) {
  const { lab, held, max_held: quota } = entry;
  if (isSum(entry)) return ["other labs", number(held), "–", "–"];
  const longest = leases.get(lab);
  return [
    h("a", { href: addressOf({ status: "allocated", lab }) }, h("bdi", {}, lab)),
    number(held),
    quota === null ? "none" : quotaNode(held, quota),
    longest ? duration(longest) : "–",
  ];
}

/** `57 of 60`, with a bar. */
function quotaNode(held, quota) {
  const bar = h("span", { class: `bar ${held >= quota ? "deletion_failed" : "allocated"}` });
  bar.style.width = `${Math.min(100, quota > 0 ? (100 * held) / quota : 100)}%`;
  return [
    `${number(held)} of ${number(quota)}${held >= quota ? ", full" : ""}`,
    h("span", { class: "bar-track quota", "aria-hidden": "true" }, bar),
  ];
}
