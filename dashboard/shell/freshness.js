// How old the figures are, and why, if they are too old.

import { h, setText } from "../lib/dom.js";
import { duration } from "../lib/format.js";

const TOO_OLD = 120; // Seconds.

/** `fault` is why the last poll failed, or null. */
export function freshnessLine({ element, overview, clock, fault }) {
  const age = h("span");
  const reason = h("span", { role: "status" }); // The age ticks, and is no news; the reason is.
  element.replaceChildren(age, reason);
  element.hidden = false;

  function tick() {
    const data = overview.get();
    const seconds = data && clock.now() - data.counted_at;
    const isOld = seconds > TOO_OLD;
    const why = fault.get();
    setText(age, data ? `Figures are ${duration(seconds)} old. ` : "No figures yet. ");
    setText(reason, why ? `They cannot be renewed: ${why}` : isOld ? "The broker has not counted since." : "");
    element.classList.toggle("is-old", Boolean(why) || isOld);
  }

  const timer = setInterval(tick, 1000);
  const stops = [overview.subscribe(tick), fault.subscribe(tick)];
  return () => {
    clearInterval(timer);
    for (const stop of stops) stop();
    element.replaceChildren();
    element.hidden = true;
  };
}
