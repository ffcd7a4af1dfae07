// The pauses in force, polled while the console is open.

import { observable } from "../lib/observable.js";
import { createPoll } from "../lib/poll.js";

// The broker answers from the table, so that a page shows a pause that any broker has set within ten seconds.
const INTERVAL_MS = 5000;

/** `list` holds the pauses, or null until they are known; `error` the message of the last failed poll, or null. */
export function createPauseState({ api }) {
  const list = observable(null);
  const error = observable(null);
  const poll = createPoll({
    intervalMs: INTERVAL_MS,
    maxBackoffMs: INTERVAL_MS, // Otherwise a page would show them minutes late after an outage.
    onFailure: ({ message }) => error.set(message),
    run: async () => {
      const { pauses } = await api.get("/admin/pauses");
      error.set(null);
      list.set(pauses);
    },
  });
  return { list, error, start: poll.start, stop: poll.stop, refresh: poll.refresh };
}
