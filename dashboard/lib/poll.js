// Repeating a request politely: never two at once, not while nobody looks, more slowly after failures.

const LONGEST_MS = 5 * 60_000;

/** How long to wait after so many failures in a row: twice as long each time, and as long as the broker asks. */
export function backOff(failures, everyMs, retryAfterSeconds = null) {
  const wait = Math.min(everyMs * 2 ** Math.min(failures - 1, 20), Math.max(LONGEST_MS, everyMs));
  return Math.max(wait, (retryAfterSeconds ?? 0) * 1000);
}

/**
 * Calls `run` every so often, from `start()` to `stop()`. `onFailure` hears of each failure and how long the next
 * attempt is away. `page` is the document, or what has its `hidden` and its event.
 */
export function createPoll({ run, everyMs, onFailure = () => {}, page = document }) {
  let timer = null;
  let isActive = false;
  let isBusy = false;
  let isWanted = false; // Somebody asked for a run while one was under way.
  let failures = 0;
  let notBefore = 0; // The broker asked to be left alone until then.

  async function tick() {
    clearTimeout(timer);
    if (!isActive || isBusy || page.hidden) return;
    isBusy = true;
    isWanted = false;
    let wait = everyMs;
    try {
      await run();
      failures = 0;
    } catch (error) {
      failures += 1;
      wait = backOff(failures, everyMs, error.retryAfter);
      notBefore = error.retryAfter ? Date.now() + error.retryAfter * 1000 : 0;
      if (isActive) onFailure(error, wait);
    }
    isBusy = false;
    if (isWanted) soon();
    else later(wait);
  }

  function later(wait) {
    clearTimeout(timer);
    if (isActive) timer = setTimeout(tick, wait);
  }

  function soon() {
    const wait = notBefore - Date.now();
    if (wait > 0) later(wait);
    else tick();
  }

  return {
    start() {
      if (isActive) return;
      isActive = true;
      page.addEventListener("visibilitychange", soon);
      soon();
    },
    stop() {
      isActive = false;
      clearTimeout(timer);
      page.removeEventListener("visibilitychange", soon);
    },
    /** Runs now, or once more after the run that is under way. */
    refresh() {
      isWanted = isBusy;
      soon();
    },
  };
}
