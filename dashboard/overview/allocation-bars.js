// The current allocations: bar charts by lab and by the time they have left, and the hours held by lab.

import { barList, drawBars } from "../lib/bars.js";
import { fill, h, scrollRegion, section, setText } from "../lib/dom.js";
import { duration, plural, sandboxes } from "../lib/format.js";
import { createPoll } from "../lib/poll.js";
import { createInventory } from "../sandboxes/inventory.js";
import { BUCKET_SECONDS, countByLab, countByTimeLeft } from "./allocation-counts.js";
import { hoursTable } from "./lab-hours.js";

const INTERVAL_MS = 60_000;

/** `onRows(rows)` is called with the allocated sandboxes whenever more of them, or newer ones, are loaded. */
export function allocationBars({ api, clock }, onRows) {
  const labList = barList("Allocated sandboxes by lab");
  const timeLeftList = barList("Time left of allocations");
  const labNote = h("p", { class: "muted", role: "status" });
  const timeLeftNote = h("p", { class: "muted" });
  const hours = scrollRegion("Hours held, by lab");

  function draw({ rows, isComplete, loaded }) {
    drawBars(labList, labBars(countByLab(rows)));
    drawBars(timeLeftList, timeLeftBars(countByTimeLeft(rows, clock.now())));
    // A table that is drawn again would lose the focus of a link.
    if (!hours.querySelector(":focus")) fill(hours, hoursTable(rows, clock.now()));
    const text = isComplete ? `${sandboxes(rows.length)} allocated.` : `${sandboxes(loaded)} loaded …`;
    for (const note of [labNote, timeLeftNote]) setText(note, text);
    onRows(rows);
  }

  const inventory = createInventory({ api, params: { status: "allocated" }, now: clock.now, onChange: draw });
  const poll = createPoll({
    run: inventory.load,
    intervalMs: INTERVAL_MS,
    onFailure: ({ message }) => setText(labNote, `The allocations could not be loaded: ${message}`),
  });
  return {
    nodes: [
      h("div", {},
        section("Allocated, by lab", labNote, labList),
        section("Hours held, by lab",
          h("p", { class: "muted" }, "The hours since each sandbox that is allocated now was allocated. Released ones are not counted."),
          hours)),
      section("Time left of allocations", timeLeftNote, timeLeftList),
    ],
    poll,
  };
}

function labBars({ top, rest }) {
  const bars = top.map(({ lab, count }) => ({ label: lab ?? "(no lab)", count, kind: "allocated" }));
  if (rest.labs > 0) bars.push({ label: plural(rest.labs, "other lab"), count: rest.count });
  return bars;
}

function timeLeftBars({ pastExpiry, buckets, isLastOpen }) {
  return [
    { label: "past expiry", count: pastExpiry, kind: "deletion_failed" },
    ...buckets.map((count, index) => ({
      label: bucketLabel(index, isLastOpen && index === buckets.length - 1), count, kind: "allocated",
    })),
  ];
}

/** `0 – 30 min`, `30 min – 1 h`; `12 h and more` for an open bucket. */
function bucketLabel(index, isOpen) {
  const from = index === 0 ? "0" : duration(index * BUCKET_SECONDS);
  return isOpen ? `${from} and more` : `${from} – ${duration((index + 1) * BUCKET_SECONDS)}`;
}
