// Runs under way: those that were started here, and those that somebody else did.

import { h, fill, setText } from "../lib/dom.js";
import { observable } from "../lib/observable.js";
import { createPoll } from "../lib/poll.js";
import { countsText, isSilent, notesOf, progressOf, runDuration } from "./run-text.js";

const EVERY_MS = 2000;

/** Follows runs to their end. `onFinished` hears of each end; those of others then leave the list by themselves. */
export function createRuns({ api, onFinished }) {
  const entries = new Map();
  const dismissed = new Set();
  const list = observable([]);
  const publish = () => list.set([...entries.values()]);

  async function look(entry) {
    entry.run = await api.get(`/admin/jobs/${encodeURIComponent(entry.id)}`);
    entry.trouble = null;
    if (entry.run.state !== "running") {
      entry.poll.stop();
      if (!entry.isOurs) entries.delete(entry.id);
      onFinished(entry.run, entry.isOurs);
    }
    publish();
  }

  function failed(entry, error) {
    entry.trouble = error.message;
    if (error.status === 404) entry.poll.stop();
    publish();
  }

  function follow(id, { run = null, isOurs = false } = {}) {
    const known = entries.get(id);
    if (known) {
      known.isOurs ||= isOurs;
      return;
    }
    const entry = { id, run, isOurs, trouble: null };
    entry.poll = createPoll({ run: () => look(entry), everyMs: EVERY_MS, onFailure: (error) => failed(entry, error) });
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
    /** The overview tells of runs too, and goes on to tell of those whose broker died. */
    notice(jobs) {
      for (const { last_run: run } of jobs) {
        if (run?.state === "running" && !dismissed.has(run.id)) follow(run.id, { run });
      }
    },
    destroy() {
      for (const id of [...entries.keys()]) dismiss(id);
    },
  };
}

/** The list of them, kept up to date without losing the focus in it. */
export function runList({ runs, clock }) {
  const cards = new Map();
  const empty = h("p", { class: "muted" }, "No job is running.");
  const node = h("div", { class: "runs" }, empty);
  const stop = runs.list.subscribe((entries) => {
    const ids = new Set(entries.map(({ id }) => id));
    for (const [id, card] of cards) {
      if (ids.has(id)) continue;
      card.node.remove();
      cards.delete(id);
    }
    for (const entry of entries) {
      if (!cards.has(entry.id)) {
        const card = runCard(() => runs.dismiss(entry.id));
        cards.set(entry.id, card);
        node.append(card.node);
      }
      cards.get(entry.id).update(entry, clock.now());
    }
    empty.hidden = entries.length > 0;
  });
  return { node, destroy: stop };
}

function runCard(onDismiss) {
  const title = h("strong");
  const state = h("span", { class: "pill" });
  const bar = h("progress", { max: "1" });
  const counts = h("p");
  const notes = h("ul", { class: "notes", role: "list" });
  const dismiss = h("button", { type: "button", onclick: onDismiss }, "Dismiss");
  const node = h("article", { class: "run" }, h("p", { class: "run-head" }, title, state, dismiss), bar, counts, notes);

  function update({ id, run, trouble }, now) {
    const isOver = run !== null && run.state !== "running";
    setText(title, run?.job ?? id);
    setText(state, run ? `${run.state} ${isOver ? "after" : "for"} ${runDuration(run, now)}` : "starting");
    state.className = `pill ${run?.state ?? "running"}`;
    bar.setAttribute("aria-label", `Progress of ${run?.job ?? id}`);
    bar.hidden = isOver;
    const done = run && progressOf(run);
    if (done === null) bar.removeAttribute("value");
    else bar.value = done;
    setText(counts, run ? countsText(run) : "");
    const texts = [...(run ? notesOf(run, now) : []), ...(trouble ? [trouble] : [])];
    if (notes.textContent !== texts.join("")) fill(notes, texts.map((text) => h("li", {}, text)));
    dismiss.hidden = !isOver && !trouble && !(run && isSilent(run, now));
    dismiss.setAttribute("aria-label", `Dismiss ${run?.job ?? id}`);
  }

  return { node, update };
}
