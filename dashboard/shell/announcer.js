// A short message at the bottom of the page, which disappears after a few seconds.

import { fill } from "../lib/dom.js";

const SHOWN_MS = 12_000;

/** `element` is a live region, so that screen readers announce the message too. */
export function createAnnouncer(element) {
  let timer = null;
  function clear() {
    clearTimeout(timer);
    fill(element);
    element.className = "announcer";
  }
  return {
    announce(text, { isError = false } = {}) {
      clearTimeout(timer);
      fill(element, text);
      element.className = `announcer is-shown ${isError ? "is-error" : ""}`;
      timer = setTimeout(clear, SHOWN_MS);
    },
    clear,
  };
}
