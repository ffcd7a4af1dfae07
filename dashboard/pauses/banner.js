// The pauses in force, at the top of every view.

import { fill, h, reasonNode } from "../lib/dom.js";
import { activityName, pauseText } from "./activities.js";

/**
 * Shows pauses in `element`, a live region: unchanged ones are not written again, because screen readers announce every
 * write. `announce(text)` is called for each pause that has ended, whose line just disappears. Returns a function that
 * removes the banner.
 */
export function startBanner({ element, list, announce }) {
  let shown = [];

  function show(pauses) {
    if (pauses === null || JSON.stringify(pauses) === JSON.stringify(shown)) return;
    for (const { activity } of shown) {
      if (!pauses.some((pause) => pause.activity === activity)) announce(`${activityName(activity)}: no longer paused.`);
    }
    shown = pauses;
    fill(element, pauses.length > 0 && h("ul", { role: "list" }, pauses.map((pause) =>
      h("li", {},
        h("strong", {}, `${activityName(pause.activity)} paused`), " ", h("bdi", {}, pauseText(pause)), ": ",
        reasonNode(pause.reason)))));
  }

  const unsubscribe = list.subscribe(show);
  return () => {
    unsubscribe();
    fill(element);
  };
}
