// The card of a pool: its target, its sandboxes, its state in words, and a bar of its total.

import { fill, h, newId, setText } from "../lib/dom.js";
import { number } from "../lib/format.js";
import { addressOf } from "../sandboxes/address.js";
import { modeText, stateKind, stateName, stateTexts, targetText, timeToAvailableText, totalText } from "./pool-state.js";

/** The figures of a card. Those that are a `status` lead to the sandboxes in it. */
const FIGURES = [
  { key: "available", label: "Available", status: "available" },
  { key: "provisioning", label: "Warming up", status: "provisioning" },
  { key: "under_way", label: "Being created" },
  { key: "allocated", label: "Allocated", status: "allocated" },
  { key: "quarantined", label: "Quarantined", status: "quarantined" },
];

/** Returns `{node, update(pool, now)}` for the pool of a name prefix. Updates keep the focus. */
export function createPoolCard(prefix) {
  const titleId = newId("pool");
  const pill = h("span");
  const state = h("div", { class: "pool-state" });
  const target = h("dd");
  const figures = FIGURES.map((figure) => createFigure(figure, prefix));
  const bar = createTotalBar(prefix);
  const more = [["Time to available", h("dd")], ["Refill", h("dd")]];
  const [timeToAvailable, mode] = more.map(([, value]) => value);
  const node = h("article", { class: "pool", "aria-labelledby": titleId },
    h("h3", { id: titleId }, h("a", { href: addressOf({ prefix }) }, h("bdi", {}, prefix)), " ", pill),
    state,
    h("dl", { class: "figures" },
      h("div", { class: "wide" }, h("dt", {}, "Target"), target), figures.map((figure) => figure.node)),
    bar.node,
    h("dl", { class: "fields" }, more.map(([label, value]) => [h("dt", {}, label), value])));
  let shownState = "";

  return {
    node,
    update(pool, now) {
      pill.className = `pill ${stateKind(pool.state)}`;
      setText(pill, stateName(pool.state));
      const texts = stateTexts(pool, now);
      if (texts.join("\n") !== shownState) fill(state, texts.map((text) => h("p", {}, h("bdi", {}, text))));
      shownState = texts.join("\n");
      setText(target, targetText(pool));
      for (const figure of figures) figure.update(pool);
      bar.update(pool);
      setText(timeToAvailable, timeToAvailableText(pool.time_to_available_sec));
      setText(mode, modeText(pool.mode));
    },
  };
}

function createFigure({ key, label, status }, prefix) {
  const value = h("dd");
  const name = status ? h("a", { href: addressOf({ status, prefix }) }, label) : label;
  return {
    node: h("div", { class: key }, h("dt", {}, name), value),
    update: (pool) => setText(value, number(pool[key] ?? 0)),
  };
}

/** The total of a pool as a text and as a bar, whose parts are the figures of the card. */
function createTotalBar(prefix) {
  const parts = [...FIGURES.map(({ key }) => key), "rest"].map((key) => ({ key, node: h("span", { class: `bar ${key}` }) }));
  const meter = h("div", { class: "bar-track total", role: "meter", "aria-label": `Sandboxes of ${prefix} in all`, "aria-valuemin": "0" },
    parts.map(({ node }) => node));
  const text = h("span");
  return {
    node: h("div", { class: "pool-total" }, h("p", {}, "In all: ", text), meter),
    update(pool) {
      const { total, max_total: most } = pool;
      setText(text, totalText(pool));
      meter.hidden = !(most > 0);
      if (meter.hidden) return;
      meter.setAttribute("aria-valuemax", String(most));
      meter.setAttribute("aria-valuenow", String(Math.min(total, most)));
      meter.setAttribute("aria-valuetext", totalText(pool));
      const widths = partsOf(pool);
      for (const { key, node } of parts) node.style.width = `${(100 * widths[key]) / Math.max(most, total)}%`;
    },
  };
}

/** The parts of the total: `rest` are the sandboxes that wait for their deletion, or whose deletion failed. */
function partsOf(pool) {
  const known = Object.fromEntries(FIGURES.map(({ key }) => [key, pool[key] ?? 0]));
  const sum = Object.values(known).reduce((total, count) => total + count, 0);
  return { ...known, rest: Math.max(0, pool.total - sum) };
}
