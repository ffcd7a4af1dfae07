// The view at a glance.

import { barList, drawBars } from "../lib/bars.js";
import { createChart } from "../lib/chart.js";
import { fill, h, scrollRegion, section, setText } from "../lib/dom.js";
import { STATUSES, clockTime, duration, number, plural, sandboxes, statusName } from "../lib/format.js";
import { createInventory } from "../sandboxes/inventory.js";
import { jobTable } from "../jobs/job-table.js";
import { createPoll } from "../lib/poll.js";
import { runList } from "../jobs/runs.js";
import { HALF_HOUR, byLab, timeLeft } from "./tallies.js";

const HOURS = 24;

export function overviewView(context) {
  const { overview, clock } = context;
  const glance = glancePanel();
  const running = runList(context);
  const jobs = scrollRegion("Jobs");
  const charts = timeCharts(context);
  const allocations = allocationCharts(context);
  const node = h("div", {},
    section("Pool", glance.node),
    section("Running jobs", running.node),
    section("Jobs", jobs),
    h("div", { class: "two" }, charts.nodes, allocations.nodes));

  const stop = overview.subscribe((data) => {
    if (!data) return;
    glance.update(data);
    fill(jobs, jobTable(data.jobs, clock.now()));
  });

  return {
    title: "Overview",
    node,
    show() {
      charts.poll.start();
      allocations.poll.start();
    },
    hide() {
      charts.poll.stop();
      allocations.poll.stop();
    },
    destroy() {
      this.hide();
      stop();
      running.destroy();
      charts.destroy();
    },
  };
}

function glancePanel() {
  const tiles = Object.fromEntries([...STATUSES, "total"].map((key) => [key, h("dd", {}, "–")]));
  const boxes = Object.entries(tiles).map(([key, value]) => h("div", { class: `tile ${key}` }, h("dt", {}, statusName(key)), value));
  const lasts = h("p", { class: "lead" });
  const breakers = h("p", { class: "breakers" });

  function update({ counts, pool_low_below: low, breakers: states, ...data }) {
    for (const [key, value] of Object.entries(tiles)) setText(value, number(counts[key]));
    tiles.available.parentElement.classList.toggle("is-low", counts.available < low);
    setText(lasts, lastsText(data, counts));
    fill(breakers, "Breakers:", states.map(({ name, state }) =>
      h("span", { class: `pill ${state}` }, `${name} ${state.replace("_", " ")}`)));
  }

  return { node: [h("dl", { class: "tiles" }, boxes), lasts, breakers], update };
}

function lastsText({ lasts_for_seconds: seconds, allocations_last_hour: taken, releases_last_hour: released }, counts) {
  const hour = `In the last hour ${plural(taken, "allocation")} and ${plural(released, "release")}.`;
  if (counts.available === 0) return `The pool is empty. ${hour}`;
  if (seconds === null) return "Nobody allocated anything in the last hour, so the pool does not shrink.";
  return `At the rate of the last hour the pool lasts for ${duration(seconds)}. ${hour}`;
}

function timeCharts({ api }) {
  const pool = createChart({
    label: "Sandboxes by status over 24 hours",
    isStacked: true,
    series: ["available", "allocated", "pending_deletion", "stale", "deletion_failed"].map((key) => ({ key, label: statusName(key) })),
    summary: (samples) => summaryOf(samples, (last) => `Last: ${STATUSES.map((key) => `${number(last[key])} ${statusName(key)}`).join(", ")}.`),
  });
  const flow = createChart({
    label: "Allocations and releases over 24 hours",
    series: [{ key: "allocations", label: "allocations" }, { key: "releases", label: "releases" }],
    summary: (samples) => summaryOf(samples, () => `${plural(sum(samples, "allocations"), "allocation")}, ${plural(sum(samples, "releases"), "release")}.`),
  });
  const trouble = h("p", { class: "fault", role: "status" });
  const every = h("p", { class: "muted" });
  const poll = createPoll({
    everyMs: 60_000,
    onFailure: (error) => setText(trouble, `The samples could not be loaded: ${error.message}`),
    run: async () => {
      const answer = await api.get("/admin/samples", { hours: HOURS });
      setText(trouble, "");
      setText(every, answer.samples.length ? `Each point counts ${duration(answer.every_seconds)}.` : "There are no samples yet.");
      pool.update(answer);
      flow.update(answer);
    },
  });
  return {
    nodes: [section("Pool over 24 hours", trouble, pool.node), section("Allocations and releases", every, flow.node)],
    poll,
    destroy() {
      pool.destroy();
      flow.destroy();
    },
  };
}

const sum = (samples, key) => samples.reduce((total, sample) => total + sample[key], 0);

function summaryOf(samples, text) {
  if (samples.length === 0) return "No samples yet.";
  return `From ${clockTime(samples[0].at)} to ${clockTime(samples.at(-1).at)}. ${text(samples.at(-1))}`;
}

function allocationCharts({ api, clock }) {
  const labs = barList("Allocated sandboxes by lab");
  const left = barList("Time left of allocations");
  const notes = [h("p", { class: "muted", role: "status" }), h("p", { class: "muted" })];

  function draw({ rows, isComplete, loaded }) {
    const { top, rest } = byLab(rows);
    drawBars(labs, [
      ...top.map(({ lab, count }) => ({ label: lab ?? "(no lab)", count, kind: "allocated" })),
      ...(rest.labs ? [{ label: `${plural(rest.labs, "other lab")}`, count: rest.count, kind: "rest" }] : []),
    ]);
    const { overdue, buckets, isLastOpen } = timeLeft(rows, clock.now());
    drawBars(left, [
      { label: "overdue", count: overdue, kind: "deletion_failed" },
      ...buckets.map((count, at) => ({ label: bucketLabel(at, isLastOpen && at === buckets.length - 1), count, kind: "allocated" })),
    ]);
    const text = isComplete ? `${sandboxes(rows.length)} allocated.` : `${sandboxes(loaded)} loaded …`;
    for (const note of notes) setText(note, text);
  }

  const inventory = createInventory({ api, params: { status: "allocated" }, now: clock.now, onChange: draw });
  const poll = createPoll({
    run: inventory.load,
    everyMs: 60_000,
    onFailure: (error) => setText(notes[0], `The allocations could not be loaded: ${error.message}`),
  });
  return { nodes: [section("Allocated, by lab", notes[0], labs), section("Time left of allocations", notes[1], left)], poll };
}

function bucketLabel(at, isOpen) {
  const from = duration(at * HALF_HOUR).replace(/^0 s$/, "0");
  return isOpen ? `${from} and more` : `${from} – ${duration((at + 1) * HALF_HOUR)}`;
}
