// The broker's warnings, at the top of every view.

import { fill, h } from "../lib/dom.js";
import { withTimes } from "../lib/format.js";

/** Shows warnings. Unchanged ones are not written again, because a screen reader announces every write to an alert. */
export function showWarnings(element, warnings) {
  const texts = warnings.map(({ message }) => withTimes(message));
  const key = JSON.stringify(texts);
  if (element.dataset.shown === key) return;
  element.dataset.shown = key;
  fill(element, texts.length > 0 && h("ul", { role: "list" }, texts.map((text) => h("li", {}, text))));
}
