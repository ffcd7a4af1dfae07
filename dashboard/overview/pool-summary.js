// The pools of the policy in one sentence, and those that need attention, each with its state.

import { fill, h, section, setText } from "../lib/dom.js";
import { number } from "../lib/format.js";
import { needsAttention, sortPools, stateKind, stateName } from "../pools/pool-state.js";
import { summaryText } from "../pools/pool-list.js";

const MOST = 8;

/** Returns `{node, update(pools)}`: hidden without pools. */
export function poolSummary() {
  const summary = h("p");
  const urgentList = h("ul", { class: "plain", role: "list", "aria-label": "Pools that need attention" });
  const node = section("Pools", summary, urgentList, h("p", {}, h("a", { href: "#/pools" }, "All pools, and the forecast")));
  let shown = "";

  return {
    node,
    update(pools) {
      node.hidden = pools.length === 0;
      const urgent = sortPools(pools).filter(needsAttention);
      setText(summary, summaryText(pools, urgent.length));
      const lines = urgent.slice(0, MOST).map(({ name_prefix: prefix, state, available, target }) =>
        [prefix, state, `${number(available)} available of ${number(target)}`]);
      if (JSON.stringify(lines) === shown) return;
      shown = JSON.stringify(lines);
      urgentList.hidden = lines.length === 0;
      fill(urgentList, lines.map(([prefix, state, text]) =>
        h("li", {}, h("bdi", {}, prefix), " ", h("span", { class: `pill ${stateKind(state)}` }, stateName(state)), ` ${text}`)));
    },
  };
}
