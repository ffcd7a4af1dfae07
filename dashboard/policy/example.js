// A policy to start from.

import { h } from "../lib/dom.js";

const EXAMPLE = `[defaults]                       # labs that are not named below
duration_minutes = 240
max_duration_minutes = 480       # with extensions
max_replacements = 3
replaced = "delete"              # or "quarantine"

[[lab]]
id = "cloud-security-101"        # "cloud-*" matches every lab with this beginning
name_prefix = "lab-adventure"    # for allocations that name none
duration_minutes = 120
max_duration_minutes = 300
max_held = 60                    # sandboxes that the lab may hold at once

[[pool]]
name_prefix = "lab-adventure"
target_available = 50
max_total = 120
`;

export function exampleNode() {
  return h("details", { class: "columns" }, h("summary", {}, "An example"), h("pre", { class: "scroll", tabindex: "0" }, EXAMPLE));
}
