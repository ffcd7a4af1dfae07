// The view "Jobs": the running jobs, the jobs that can be started, the schedule, and the recent runs.

import { showDetails } from "../lib/dialogs.js";
import { errorLine, fill, h, newId, scrollRegion, section, setText, table } from "../lib/dom.js";
import { dateTime, number } from "../lib/format.js";
import { createPoll } from "../lib/poll.js";
import { ACTIONS } from "./actions.js";
import { jobTable, resultOf, statePill } from "./job-table.js";
import { howToTurnOn, isOff } from "./optional-jobs.js";
import { refillReport } from "./refill-report.js";
import { runList } from "./run-list.js";
import { startJob } from "./start-job.js";

const INTERVAL_MS = 30_000;

export function jobsView(context) {
  const { api, overview, clock, may } = context;
  const running = runList(context);
  const schedule = scrollRegion("Jobs");
  const history = scrollRegion("Recent runs");
  const error = errorLine();
  const cards = ACTIONS.filter(({ role }) => may(role)).map((action) => actionCard(action, {
    announce: context.announce,
    async onStart() {
      await startJob(action, context);
      poll.refresh();
    },
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
      const focused = history.querySelector(":focus")?.dataset.run;
      fill(history, runs.length
        ? runTable(runs, clock.now())
        : h("p", { class: "muted" }, "No job has run in the last 30 days."));
      [...history.querySelectorAll("button")].find(({ dataset }) => dataset.run === focused)?.focus();
    },
  });

  const unsubscribe = overview.subscribe((data) => {
    if (!data) return;
    fill(schedule, jobTable(data.jobs, clock.now()));
    for (const card of cards) card.update(data);
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

/**
 * Returns the card of an action, whose button is disabled while there are no sandboxes that it would affect. If its job is
 * off, the card and the button say how to turn it on.
 */
function actionCard(action, { announce, onStart }) {
  const { name, job, describe, affectedStatus, isBulkRemoval } = action;
  let offText = ""; // How the job is turned on, if it is off.
  const off = h("span", { class: "pill", hidden: true }, "off");
  const offNote = h("p", { id: newId("off") });
  const description = h("p", { class: "muted" });
  const button = h("button", {
    type: "button", disabled: true, class: isBulkRemoval ? "danger" : "", "aria-describedby": offNote.id,
    onclick: () => (offText ? announce(offText, { isError: true }) : onStart()),
  }, name);
  return {
    node: h("div", { class: "action" }, h("h3", {}, `${name} `, off), h("div", {}, description, offNote), button),
    update({ counts, jobs }) {
      offText = jobs.some((one) => one.job === job && isOff(one)) ? howToTurnOn(job) : "";
      off.hidden = !offText;
      offNote.hidden = !offText;
      setText(offNote, offText);
      setText(description, describe(counts));
      button.setAttribute("aria-disabled", String(Boolean(offText)));
      setText(button, affectedStatus ? `${name} (${number(counts[affectedStatus])})` : name);
      button.disabled = Boolean(affectedStatus) && counts[affectedStatus] === 0;
    },
  };
}

function runTable(runs, now) {
  return table("Recent runs, newest first", ["Job", "Started", "Outcome", "Result", "Run"],
    runs.map((run) => [
      run.job, dateTime(run.started_at), statePill(run.state), [resultOf(run, now), poolsButton(run)], h("code", {}, run.id),
    ]));
}

/** Returns the button that shows the pools of a refill; null if the run reports none. */
function poolsButton(run) {
  const report = refillReport(run);
  const title = `Pools of the refill at ${dateTime(run.started_at)}`;
  return report && [" ", h("button", { type: "button", "data-run": run.id, onclick: () => showDetails({ title, body: report }) }, "Pools …")];
}
