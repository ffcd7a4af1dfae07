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
target_available = 12            # on all other days
max_total = 120

[pool.create]                    # without it, nothing is created
description = "Hands-on labs"

[[pool.schedule]]                # a class of 60: warm at ten
from = 2026-11-28T10:00:00       # or with an offset: 2026-11-28T10:00:00+01:00
to = 2026-11-28T12:00:00
time_zone = "Europe/Berlin"
target_available = 60
# lead_minutes = 90              # creation begins this long before, else as early as needed
`;

export function exampleNode() {
  return h("details", { class: "columns" }, h("summary", {}, "An example, with a pool and a schedule"), h("pre", { class: "scroll", tabindex: "0" }, EXAMPLE));
}
