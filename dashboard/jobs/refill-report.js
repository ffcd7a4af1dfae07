// The pools in the report of a refill: what it created in each, or would create, and why not more.

import { h, scrollRegion, table } from "../lib/dom.js";
import { number, plural, withTimes } from "../lib/format.js";
import { totalText } from "../pools/pool-state.js";

/** Returns the table of the pools of a run, and how many are left out; null if the run reports none. */
export function refillReport({ counts }) {
  const { pools = [], other_pools: others = 0, plan } = counts ?? {};
  if (pools.length === 0) return null;
  const columns = ["Pool", "Target", "Available", "Warming up", "Being created", "In all", plan ? "Would create" : "Creations", "Notes"];
  const node = table("Pools of the refill", columns, pools.map(rowOf));
  node.className = "wrapped pool-figures";
  return h("div", {},
    scrollRegion("Pools of the refill", node),
    others > 0 && h("p", { class: "muted" }, `${plural(others, "more pool")} missed nothing, or not as much.`));
}

function rowOf(pool) {
  const { name_prefix: prefix, available, provisioning, under_way: underWay, creations } = pool;
  return [
    h("bdi", {}, prefix), goalText(pool), ...[available, provisioning, underWay].map(number), totalText(pool), number(creations),
    h("bdi", {}, noteOf(pool)),
  ];
}

/** `50`, or `50, 60 for a schedule ahead` */
const goalText = ({ target, goal }) => (goal > target ? `${number(target)}, ${number(goal)} for a schedule ahead` : number(target));

/** `stopped: <why>` */
function noteOf({ reason, stopped, drops, look_ups: lookUps }) {
  return [
    reason && (stopped ? `stopped: ${withTimes(reason)}` : withTimes(reason)),
    drops > 0 && `${number(drops)} dropped`,
    lookUps > 0 && `${number(lookUps)} looked up`,
  ].filter(Boolean).join("; ") || "–";
}
