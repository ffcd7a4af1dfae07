// The table of jobs with their last and next runs, and the cells that it shares with the table of runs.

import { h, table } from "../lib/dom.js";
import { dateTime, duration, isoTime, relative } from "../lib/format.js";
import { howToTurnOn, isOff } from "./optional-jobs.js";
import { countsText, notesOf, runDuration } from "./run-text.js";

export function jobTable(jobs, now) {
  return table("Jobs with their last and next runs",
    ["Job", "Last run", "Outcome", "Result", "Last success", "Next run"],
    jobs.map((job) => {
      const run = job.last_run;
      return [
        [job.job, job.interval_seconds && h("small", {}, ` every ${duration(job.interval_seconds)}`)],
        relativeTime(run?.started_at, now),
        run ? statePill(run.state) : "–",
        run ? resultOf(run, now) : "–",
        relativeTime(job.last_success_at, now),
        nextRun(job, now),
      ];
    }));
}

/** Returns a relative time, with the date as its tooltip. */
function relativeTime(at, now) {
  return at ? h("time", { datetime: isoTime(at), title: dateTime(at) }, relative(at, now)) : "never";
}

function nextRun(job, now) {
  if (isOff(job)) return h("span", { class: "pill", title: howToTurnOn(job.job) }, "off");
  if (job.interval_seconds === null) return "manual only";
  if (job.is_overdue) return h("span", { class: "pill failed" }, `overdue, no success since ${dateTime(job.last_success_at)}`);
  if (!job.next_due_at) return "unknown";
  return job.next_due_at <= now ? "now" : relativeTime(job.next_due_at, now);
}

export function statePill(state) {
  return h("span", { class: `pill ${state}` }, state);
}

/** Returns the counts, the duration and the notes of a run. */
export function resultOf(run, now) {
  return [
    `${countsText(run) || "no counts"} (${runDuration(run, now)})`,
    notesOf(run, now).map((note) => h("small", { class: "note" }, note)),
  ];
}
