// Polls the broker: one request at a time, none while the tab is hidden, with exponential backoff after failures.

const MAX_BACKOFF_MS = 5 * 60_000;

/**
 * Returns the wait after a number of consecutive failures, in ms: it doubles each time up to `maxMs`, and is never shorter
 * than the broker's `Retry-After`.
 */
export function backoffMs(failures, intervalMs, retryAfterSeconds = null, maxMs = MAX_BACKOFF_MS) {
  const wait = Math.min(intervalMs * 2 ** Math.min(failures - 1, 20), Math.max(maxMs, intervalMs));
  return Math.max(wait, (retryAfterSeconds ?? 0) * 1000);
}

/**
 * Calls `run` every `intervalMs` between `start()` and `stop()`. `onFailure(error, waitMs)` is called after each failure;
 * `maxBackoffMs` bounds the wait after it. `page` supplies `hidden` and the `visibilitychange` event.
 */
export function createPoll({ run, intervalMs, maxBackoffMs, onFailure = () => {}, page = document }) {
  let timer = null;
  let isActive = false;
  let isRunning = false;
  let isRefreshPending = false; // A refresh was requested during a run.
  let failures = 0;
  let notBefore = 0; // The end of the broker's last `Retry-After`, in Unix ms.

  async function tick() {
    clearTimeout(timer);
    if (!isActive || isRunning || page.hidden) return;
    isRunning = true;
    isRefreshPending = false;
    let wait = intervalMs;
    try {
      await run();
      failures = 0;
    } catch (error) {
      failures += 1;
      wait = backoffMs(failures, intervalMs, error.retryAfter, maxBackoffMs);
      notBefore = error.retryAfter ? Date.now() + error.retryAfter * 1000 : 0;
      if (isActive) onFailure(error, wait);
    }
    isRunning = false;
    if (isRefreshPending) tickWhenAllowed();
    else schedule(wait);
  }

  function schedule(wait) {
    clearTimeout(timer);
    if (isActive) timer = setTimeout(tick, wait);
  }

  function tickWhenAllowed() {
    const wait = notBefore - Date.now();
    if (wait > 0) schedule(wait);
    else tick();
  }

  return {
    start() {
      if (isActive) return;
      isActive = true;
      page.addEventListener("visibilitychange", tickWhenAllowed);
      tickWhenAllowed();
    },
    stop() {
      isActive = false;
      clearTimeout(timer);
      page.removeEventListener("visibilitychange", tickWhenAllowed);
    },
    /** Runs now, or once more after the current run. */
    refresh() {
      isRefreshPending = isRunning;
      tickWhenAllowed();
    },
  };
}
