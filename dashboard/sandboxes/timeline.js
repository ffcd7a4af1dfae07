// The timeline of one sandbox: its events, newest first, also of one that has left the pool.

import { errorLine, fill, h, setText } from "../lib/dom.js";
import { recordItem } from "../lib/audit-record.js";

/** `onLoaded(known)` receives the broker's answer whenever the newest events have been loaded, or `null` if it knows nothing. */
export function createTimeline({ api, clock, id, onLoaded }) {
  const path = `/admin/sandboxes/${encodeURIComponent(id)}`;
  const heading = h("h3", { tabindex: "-1" }, "Timeline");
  const list = h("ul", { class: "records", role: "list", "aria-label": "Timeline, newest first" });
  const state = h("p", { class: "muted" }, "Loading …");
  const error = errorLine();
  const retry = h("button", { type: "button", hidden: true, onclick: load }, "Try again");
  const more = h("button", { type: "button", hidden: true, onclick: loadMore }, "Earlier events");
  let loads = 0; // Only the answer to the latest load is shown.
  let cursor = null;

  const items = (events) => events.map((event) => recordItem(event, clock.now()));

  async function load() {
    const turn = ++loads;
    try {
      const known = await api.get(path);
      if (turn !== loads) return;
      fill(list, items(known.events));
      cursor = known.cursor;
      show(known.events.length ? "" : "No events are known.");
      onLoaded(known);
    } catch (cause) {
      if (turn !== loads || api.isClosed()) return;
      if (cause.status !== 404) return fail(cause);
      show("");
      onLoaded(null);
    }
  }

  async function loadMore() {
    const turn = loads;
    try {
      const earlier = await api.get(path, { cursor });
      if (turn !== loads) return;
      const added = items(earlier.events);
      list.append(...added);
      cursor = earlier.cursor;
      show("");
      // The button may be hidden now, and would leave the focus nowhere.
      if (added.length) {
        added[0].tabIndex = -1;
        added[0].focus();
      }
    } catch (cause) {
      if (turn === loads && !api.isClosed()) fail(cause);
    }
  }

  function show(text) {
    if (document.activeElement === retry) heading.focus(); // The button is hidden below.
    setText(state, text);
    setText(error, "");
    retry.hidden = true;
    more.hidden = !cursor;
  }

  function fail({ message }) {
    setText(state, "");
    setText(error, `The timeline could not be loaded: ${message}`);
    retry.hidden = false;
  }

  return { node: h("section", {}, heading, state, error, retry, list, more), load };
}
