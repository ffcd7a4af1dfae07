// The view "Pools": a card for each pool of the policy, and the forecast.

import { h, section } from "../lib/dom.js";
import { forecastForm } from "./forecast.js";
import { createPoolList } from "./pool-list.js";

export function poolsView(context) {
  const { overview, clock } = context;
  const list = createPoolList();
  const none = h("p", {},
    "The policy has no pools. Its ", h("code", {}, "[[pool]]"), " entries state how many sandboxes should be available: ",
    h("a", { href: "#/policy" }, "Policy"), ".");
  const loading = h("p", { class: "muted" }, "Loading …");
  const cards = section("Pools of the policy", loading);
  const forecast = forecastForm(context);
  const node = h("div", {}, cards, forecast.node);
  let shown = loading;

  const unsubscribe = overview.subscribe((data) => {
    if (!data) return;
    const pools = data.pools ?? []; // An older broker, during a deployment, does not name them.
    const content = pools.length > 0 ? list.node : none;
    if (content !== shown) shown.replaceWith(content);
    shown = content;
    forecast.node.hidden = pools.length === 0;
    if (pools.length > 0) list.update(pools, clock.now());
  });

  return {
    title: "Pools",
    node,
    show: forecast.offer,
    hide() {},
    destroy: unsubscribe,
  };
}
