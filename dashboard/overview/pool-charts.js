// The charts of the pool and of its allocations and releases over 24 hours.

import { createChart } from "../lib/chart.js";
import { errorLine, h, section, setText } from "../lib/dom.js";
import { STATUSES, clockTime, duration, number, plural, statusName } from "../lib/format.js";
import { createPoll } from "../lib/poll.js";

const HOURS = 24;
const INTERVAL_MS = 60_000;

export function poolCharts({ api }) {
  const statuses = createChart({
    label: "Sandboxes by status over 24 hours",
    isStacked: true,
    series: STATUSES.map((key) => ({ key, label: statusName(key) })),
    summary: (samples) => summaryOf(samples, statusSummary),
  });
  const rates = createChart({
    label: "Allocations and releases over 24 hours",
    series: [{ key: "allocations", label: "allocations" }, { key: "releases", label: "releases" }],
    summary: (samples) => summaryOf(samples, rateSummary),
  });
  const error = errorLine();
  const note = h("p", { class: "muted" });
  const poll = createPoll({
    intervalMs: INTERVAL_MS,
    onFailure: ({ message }) => setText(error, `The samples could not be loaded: ${message}`),
    run: async () => {
      const data = await api.get("/admin/samples", { hours: HOURS });
      setText(error, "");
      setText(note, data.samples.length ? `Each point covers ${duration(data.every_seconds)}.` : "There are no samples yet.");
      statuses.update(data);
      rates.update(data);
    },
  });
  return {
    nodes: [section("Pool over 24 hours", error, statuses.node), section("Allocations and releases", note, rates.node)],
    poll,
    destroy() {
      statuses.destroy();
      rates.destroy();
    },
  };
}

function summaryOf(samples, text) {
  if (samples.length === 0) return "No samples yet.";
  return `From ${clockTime(samples[0].at)} to ${clockTime(samples.at(-1).at)}. ${text(samples)}`;
}

function statusSummary(samples) {
  const last = samples.at(-1);
  return `Last: ${STATUSES.map((key) => `${number(last[key] ?? 0)} ${statusName(key)}`).join(", ")}.`;
}

function rateSummary(samples) {
  const sum = (key) => samples.reduce((total, sample) => total + sample[key], 0);
  return `${plural(sum("allocations"), "allocation")}, ${plural(sum("releases"), "release")}.`;
}
