// The table of jobs: last run, outcome, when the next is due.

import { h, table } from "../lib/dom.js";
import { dateTime, duration, relative } from "../lib/format.js";
import { countsText, notesOf, runDuration } from "./run-text.js";

export function statePill(state) {
  return h("span", { class: `pill ${state}` }, state);
}

/** A moment as a distance, with the date for who points at it. */
function moment(at, now) {
  return at ? h("time", { datetime: new Date(at * 1000).toISOString(), title: dateTime(at) }, relative(at, now)) : "never";
}

function nextDue(job, now) {
  if (job.interval_seconds === null) return "by hand only";
  if (job.is_overdue) return h("span", { class: "pill failed" }, `overdue, no success since ${dateTime(job.last_success_at)}`);
  if (!job.next_due_at) return "not known";
  return job.next_due_at <= now ? "now" : moment(job.next_due_at, now);
}

export function jobTable(jobs, now) {
  return table("Jobs, their last runs and when the next is due",
    ["Job", "Last run", "Outcome", "Result", "Last success", "Next due"],
    jobs.map((job) => {
      const run = job.last_run;
      return [
        [job.job, job.interval_seconds && h("small", {}, ` every ${duration(job.interval_seconds)}`)],
        moment(run?.started_at, now),
        run ? statePill(run.state) : "–",
        run ? resultOf(run, now) : "–",
        moment(job.last_success_at, now),
        nextDue(job, now),
      ];
    }));
}

/** Counts and notes of a run. */
export function resultOf(run, now) {
  return [
    `${countsText(run) || "nothing counted"} (${runDuration(run, now)})`,
    notesOf(run, now).map((note) => h("small", { class: "note" }, note)),
  ];
}
