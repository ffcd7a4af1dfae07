// The line that shows how old the figures are, and why they are not newer.

import { h, setText } from "../lib/dom.js";
import { duration } from "../lib/format.js";

const MAX_AGE_SECONDS = 120;

/** Starts the line. `overviewError` holds the message of the last failed poll, or null. Returns a function that stops it. */
export function startFreshnessLine({ element, overview, overviewError, clock }) {
  const age = h("span");
  const reason = h("span", { role: "status" }); // Only the reason is announced; the age changes every second.
  element.replaceChildren(age, reason);
  element.hidden = false;

  function update() {
    const data = overview.get();
    const seconds = data && clock.now() - data.counted_at;
    const isOld = seconds > MAX_AGE_SECONDS;
    const error = overviewError.get();
    setText(age, data ? `Figures are ${duration(seconds)} old. ` : "No figures yet. ");
    setText(reason, error ? `Refresh failed: ${error}` : isOld ? "The broker has not counted the pool since." : "");
    element.classList.toggle("is-old", Boolean(error) || isOld);
  }

  const timer = setInterval(update, 1000);
  const unsubscribes = [overview.subscribe(update), overviewError.subscribe(update)];
  return () => {
    clearInterval(timer);
    for (const unsubscribe of unsubscribes) unsubscribe();
    element.replaceChildren();
    element.hidden = true;
  };
}
