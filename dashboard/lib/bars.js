// A bar chart of plain HTML: a list of labels and counts that stays readable without the bars.

import { fill, h } from "./dom.js";
import { number } from "./format.js";

/** Returns an empty list for bars. */
export const barList = (label) => h("ul", { class: "bars", role: "list", "aria-label": label });

/** Fills a list with `{label, count, kind}`; `kind` is the CSS class that gives a bar its colour. */
export function drawBars(list, bars) {
  const largest = Math.max(1, ...bars.map(({ count }) => count));
  fill(list, bars.map(({ label, count, kind = "" }) => {
    const bar = h("span", { class: `bar ${kind}` });
    bar.style.width = `${(100 * count) / largest}%`;
    return h("li", {},
      h("span", { class: "bar-label" }, label),
      h("span", { class: "bar-track", "aria-hidden": "true" }, bar),
      h("span", { class: "bar-count" }, number(count)));
  }));
}
