// Follows running jobs to their end: the runs started in this tab, and those that the overview reports.

import { observable } from "../lib/observable.js";
import { createPoll } from "../lib/poll.js";

const INTERVAL_MS = 2000;

/**
 * `list` holds an entry `{id, run, isStartedHere, pollError}` for each run; `run` is null until the first poll.
 * `onFinished(run, isStartedHere)` is called when a run ends. A run that was not started here then leaves the list;
 * the others stay until they are dismissed.
 */
export function createRunTracker({ api, onFinished }) {
  const entries = new Map();
  const dismissed = new Set();
  const list = observable([]);
  const publish = () => list.set([...entries.values()]);

  async function poll(entry) {
    entry.run = await api.get(`/admin/jobs/${encodeURIComponent(entry.id)}`);
    entry.pollError = null;
    if (entry.run.state !== "running") {
      entry.poll.stop();
      if (!entry.isStartedHere) entries.delete(entry.id);
      onFinished(entry.run, entry.isStartedHere);
    }
    publish();
  }

  function onFailure(entry, error) {
    entry.pollError = error.message;
    if (error.status === 404) entry.poll.stop();
    publish();
  }

  function follow(id, { run = null, isStartedHere = false } = {}) {
    const existing = entries.get(id);
    if (existing) {
      existing.isStartedHere ||= isStartedHere;
      return;
    }
    const entry = { id, run, isStartedHere, pollError: null };
    entry.poll = createPoll({
      run: () => poll(entry),
      intervalMs: INTERVAL_MS,
      onFailure: (error) => onFailure(entry, error),
    });
    entries.set(id, entry);
    publish();
    entry.poll.start();
  }

  function dismiss(id) {
    entries.get(id)?.poll.stop();
    entries.delete(id);
    dismissed.add(id);
    publish();
  }

  return {
    list,
    follow,
    dismiss,
    /**
     * Follows the running jobs of an overview. Dismissed runs are left out, because the overview still reports a
     * run whose broker died.
     */
    followRunning(jobs) {
      for (const { last_run: run } of jobs) {
        if (run?.state === "running" && !dismissed.has(run.id)) follow(run.id, { run });
      }
    },
    destroy() {
      for (const id of [...entries.keys()]) dismiss(id);
    },
  };
}
