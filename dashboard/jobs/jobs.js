// The view of jobs: what runs, what can be started, what ran.

import { ACTIONS, perform } from "./actions.js";
import { fill, h, scrollRegion, section, setText, table } from "../lib/dom.js";
import { dateTime, number } from "../lib/format.js";
import { jobTable, resultOf, statePill } from "./job-table.js";
import { createPoll } from "../lib/poll.js";
import { runList } from "./runs.js";

export function jobsView(context) {
  const { api, overview, clock, runs } = context;
  const running = runList(context);
  const jobs = scrollRegion("Jobs");
  const history = scrollRegion("Recent runs");
  const trouble = h("p", { class: "fault", role: "status" });
  const cards = ACTIONS.map((action) => actionCard(action, async () => {
    await perform(action, context);
    poll.refresh();
  }));
  const node = h("div", {},
    section("Running", running.node),
    section("Start a job", h("div", { class: "actions" }, cards.map((card) => card.node))),
    section("Schedule", jobs),
    section("Recent runs", trouble, history));

  const poll = createPoll({
    everyMs: 30_000,
    onFailure: (error) => setText(trouble, `The recent runs could not be loaded: ${error.message}`),
    run: async () => {
      const { runs: recent } = await api.get("/admin/jobs");
      setText(trouble, "");
      fill(history, recent.length ? runTable(recent, clock.now()) : h("p", { class: "muted" }, "No job has run in the last 30 days."));
    },
  });

  const stop = overview.subscribe((data) => {
    if (!data) return;
    fill(jobs, jobTable(data.jobs, clock.now()));
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
      stop();
      running.destroy();
    },
  };
}

function actionCard(action, onStart) {
  const text = h("p", { class: "muted" });
  const button = h("button", { type: "button", disabled: true, class: action.removes ? "danger" : "", onclick: onStart }, action.name);
  const needs = action.removes ?? action.affected;
  return {
    node: h("div", { class: "action" }, h("h3", {}, action.name), text, button),
    update(counts) {
      setText(text, action.describe(counts));
      setText(button, needs ? `${action.name} (${number(counts[needs])})` : action.name);
      button.disabled = Boolean(needs) && counts[needs] === 0;
    },
  };
}

function runTable(recent, now) {
  return table("Recent runs, newest first", ["Job", "Started", "Outcome", "Result", "Run"],
    recent.map((run) => [
      run.job, dateTime(run.started_at), statePill(run.state), resultOf(run, now), h("code", {}, run.id),
    ]));
}
