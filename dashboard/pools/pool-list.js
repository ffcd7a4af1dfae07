// The cards of the pools: those that need attention first, the rest behind a summary, so that a thousand do not slow the
// page down.

import { h, newId, setText } from "../lib/dom.js";
import { number, plural } from "../lib/format.js";
import { createPoolCard } from "./pool-card.js";
import { countsByState, needsAttention, sortPools } from "./pool-state.js";

/** As many cards are shown at first, or more if more pools need attention. */
const FIRST = 12;
const MOST_AT_FIRST = 48;
/** As many cards are added each time that the operator asks for more. */
const STEP = 48;

/** Returns `{node, update(pools, now)}`. */
export function createPoolList() {
  const cards = new Map(); // Of the pools that are shown, by name prefix.
  let pools = [];
  let now = 0;
  let more = STEP; // How many of the rest are shown, while it is open.

  const search = h("input", { id: newId("pool-search"), type: "search", autocomplete: "off", spellcheck: "false", oninput: draw });
  const searchLine = h("search", { class: "filters" },
    h("div", {}, h("label", { for: search.id }, "Name prefix contains"), search));
  const summary = h("p", { role: "status" });
  const first = h("div", { class: "pools" });
  const restSummary = h("summary");
  const rest = h("div", { class: "pools" });
  const showMore = h("button", {
    type: "button",
    onclick() {
      more += STEP;
      draw();
    },
  });
  const restDetails = h("details", { class: "more-pools", ontoggle: draw }, restSummary, rest, showMore);

  function draw() {
    const wanted = search.value.trim().toLowerCase();
    const matching = sortPools(pools).filter(({ name_prefix: prefix }) => prefix.toLowerCase().includes(wanted));
    const urgent = matching.filter(needsAttention).length;
    const atFirst = Math.min(Math.max(FIRST, urgent), MOST_AT_FIRST);
    const others = matching.slice(atFirst);
    const opened = restDetails.open ? others.slice(0, more) : [];

    searchLine.hidden = pools.length <= FIRST;
    setText(summary, matching.length === 0 ? "No pool matches." : summaryText(matching, urgent));
    setText(restSummary, `${plural(others.length, "more pool")}: ${countsByState(others)}`);
    restDetails.hidden = others.length === 0;
    const focused = document.activeElement;
    place(first, matching.slice(0, atFirst));
    place(rest, opened);
    forgetAllBut([...matching.slice(0, atFirst), ...opened]);
    const left = others.length - opened.length;
    showMore.hidden = !restDetails.open || left === 0;
    setText(showMore, `Show ${number(Math.min(STEP, left))} more of ${number(left)}`);
    // A card that moves loses the focus.
    if (focused !== document.activeElement && focused?.isConnected) focused.focus();
  }

  /** Shows the cards of pools in a container, in their order, and no others. */
  function place(container, shown) {
    const nodes = shown.map((pool) => {
      const prefix = pool.name_prefix;
      if (!cards.has(prefix)) cards.set(prefix, createPoolCard(prefix));
      cards.get(prefix).update(pool, now);
      return cards.get(prefix).node;
    });
    const kept = new Set(nodes);
    for (const node of [...container.children]) if (!kept.has(node)) node.remove();
    nodes.forEach((node, index) => {
      if (container.children[index] !== node) container.insertBefore(node, container.children[index] ?? null);
    });
  }

  function forgetAllBut(shown) {
    const prefixes = new Set(shown.map(({ name_prefix: prefix }) => prefix));
    for (const prefix of [...cards.keys()]) if (!prefixes.has(prefix)) cards.delete(prefix);
  }

  return {
    node: h("div", {}, searchLine, summary, first, restDetails),
    update(nextPools, nextNow) {
      pools = nextPools;
      now = nextNow;
      draw();
    },
  };
}

/** `3 pools: 1 stopped, 2 full. 1 needs attention.` */
export function summaryText(pools, urgent) {
  return `${plural(pools.length, "pool")}: ${countsByState(pools)}.${urgent > 0 ? ` ${number(urgent)} ${urgent === 1 ? "needs" : "need"} attention.` : ""}`;
}
