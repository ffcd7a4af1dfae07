// The table of the changes from one version of the policy to another one.

import { h, scrollRegion, table } from "../lib/dom.js";
import { number } from "../lib/format.js";
import { valueText } from "./policy-text.js";

const MAX_ROWS = 500;

/** Returns the table, and a note if it leaves changes out. */
export function changesTable(caption, changes) {
  const text = (value) => h("bdi", {}, value);
  const rows = changes.slice(0, MAX_ROWS)
    .map(({ path, before, after }) => [text(path), text(valueText(before)), text(valueText(after))]);
  const node = table(caption, ["Field", "Before", "After"], rows);
  node.className = "narrow wrapped";
  return [
    scrollRegion(caption, node),
    changes.length > MAX_ROWS && h("p", { class: "muted" }, `${number(changes.length - MAX_ROWS)} more changes are not shown.`),
  ];
}
