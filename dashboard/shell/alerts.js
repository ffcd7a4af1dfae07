// The broker's warnings, at the top of every view.

import { fill, h } from "../lib/dom.js";
import { withTimes } from "../lib/format.js";

/** Where the cause of a warning is shown, by its code: the address, and the name of the link. */
const PLACES = {
  pool_late: ["#/pools", "Pools"],
  refill_stopped: ["#/pools", "Pools"],
  quarantine_growing: ["#/quarantine", "Quarantine"],
};

/** Shows warnings. Unchanged ones are not written again, because a screen reader announces every write to an alert. */
export function showWarnings(element, warnings) {
  const lines = warnings.map(({ code, message }) => ({ text: withTimes(message), place: PLACES[code] }));
  const key = JSON.stringify(lines);
  if (element.dataset.shown === key) return;
  element.dataset.shown = key;
  fill(element, lines.length > 0 && h("ul", { role: "list" }, lines.map(({ text, place }) =>
    h("li", {}, text, place && [" ", h("a", { href: place[0] }, place[1])]))));
}
