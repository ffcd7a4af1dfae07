// The view "Jobs": the running jobs, the jobs that can be started, the schedule, and the recent runs.

import { errorLine, fill, h, scrollRegion, section, setText, table } from "../lib/dom.js";
import { dateTime, number } from "../lib/format.js";
import { createPoll } from "../lib/poll.js";
import { ACTIONS } from "./actions.js";
import { jobTable, resultOf, statePill } from "./job-table.js";
import { runList } from "./run-list.js";
import { startJob } from "./start-job.js";

const INTERVAL_MS = 30_000;

export function jobsView(context) {
  const { api, overview, clock, may } = context;
  const running = runList(context);
  const schedule = scrollRegion("Jobs");
  const history = scrollRegion("Recent runs");
  const error = errorLine();
  const cards = ACTIONS.filter(({ role }) => may(role)).map((action) => actionCard(action, async () => {
    await startJob(action, context);
    poll.refresh();
  }));
  const node = h("div", {},
    section("Running", running.node),
    cards.length > 0 && section("Start a job", h("div", { class: "actions" }, cards.map((card) => card.node))),
    section("Schedule", schedule),
    section("Recent runs", error, history));

  const poll = createPoll({
    intervalMs: INTERVAL_MS,
    onFailure: ({ message }) => setText(error, `The recent runs could not be loaded: ${message}`),
    run: async () => {
      const { runs } = await api.get("/admin/jobs");
      setText(error, "");
      fill(history, runs.length
        ? runTable(runs, clock.now())
        : h("p", { class: "muted" }, "No job has run in the last 30 days."));
    },
  });

  const unsubscribe = overview.subscribe((data) => {
    if (!data) return;
    fill(schedule, jobTable(data.jobs, clock.now()));
    for (const card of cards) card.update(data.counts);
  });

  return {
    title: "Jobs",
    node,
    show: poll.start,
    hide: poll.stop,
    refresh: poll.refresh,
    destroy() {
      poll.stop();
      unsubscribe();
      running.destroy();
    },
  };
}

/** Returns the card of an action, whose button is disabled while there are no sandboxes that it would affect. */
function actionCard(action, onStart) {
  const { name, describe, affectedStatus, isBulkRemoval } = action;
  const description = h("p", { class: "muted" });
  const button = h("button", { type: "button", disabled: true, class: isBulkRemoval ? "danger" : "", onclick: onStart }, name);
  return {
    node: h("div", { class: "action" }, h("h3", {}, name), description, button),
    update(counts) {
      setText(description, describe(counts));
      setText(button, affectedStatus ? `${name} (${number(counts[affectedStatus])})` : name);
      button.disabled = Boolean(affectedStatus) && counts[affectedStatus] === 0;
    },
  };
}

function runTable(runs, now) {
  return table("Recent runs, newest first", ["Job", "Started", "Outcome", "Result", "Run"],
    runs.map((run) => [
      run.job, dateTime(run.started_at), statePill(run.state), resultOf(run, now), h("code", {}, run.id),
    ]));
}
