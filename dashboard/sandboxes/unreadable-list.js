// The unreadable items of the pool, with their faults and attributes.

import { fill, h, scrollRegion, table } from "../lib/dom.js";
import { number } from "../lib/format.js";

const CAPTION = "Unreadable items";

export function createUnreadableList() {
  const node = h("div");
  let shown = "[]"; // As JSON: the list is not drawn again unless it changes, because the operator may have opened it.

  function show(items) {
    const key = JSON.stringify(items);
    if (key === shown) return;
    shown = key;
    const rows = items.map((item) => [item.key, item.fault, h("code", {}, JSON.stringify(item.attributes))]);
    fill(node, items.length > 0 && h("details", { class: "columns" },
      h("summary", {}, `${CAPTION}: ${number(items.length)}`),
      scrollRegion(CAPTION, table(CAPTION, ["Key", "Fault", "Attributes"], rows))));
  }

  return { node, show };
}
