// The list of tracked runs with their progress, updated in place so that the focus stays where it is.

import { fill, h, setText } from "../lib/dom.js";
import { refillReport } from "./refill-report.js";
import { countsText, isSilent, notesOf, progressOf, runDuration } from "./run-text.js";

export function runList({ runs, clock }) {
  const cards = new Map();
  const empty = h("p", { class: "muted" }, "No job is running.");
  const node = h("div", { class: "runs" }, empty);
  const unsubscribe = runs.list.subscribe((entries) => {
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
  return { node, destroy: unsubscribe };
}

function runCard(onDismiss) {
  const title = h("strong");
  const state = h("span", { class: "pill" });
  const bar = h("progress", { max: "1" });
  const counts = h("p");
  const report = h("div");
  const notes = h("ul", { class: "notes", role: "list" });
  let shownReport = "null"; // As JSON.
  const dismiss = h("button", { type: "button", onclick: onDismiss }, "Dismiss");
  const node = h("article", { class: "run" }, h("p", { class: "run-head" }, title, state, dismiss), bar, counts, report, notes);

  function update({ id, run, pollError }, now) {
    const name = run?.job ?? id;
    const isOver = run !== null && run.state !== "running";
    setText(title, name);
    setText(state, run ? `${run.state} ${isOver ? "after" : "for"} ${runDuration(run, now)}` : "starting");
    state.className = `pill ${run?.state ?? "running"}`;
    bar.setAttribute("aria-label", `Progress of ${name}`);
    bar.hidden = isOver;
    const progress = run && progressOf(run);
    if (progress === null) bar.removeAttribute("value");
    else bar.value = progress;
    setText(counts, run ? countsText(run) : "");
    showReport(run);
    const texts = [...(run ? notesOf(run, now) : []), ...(pollError ? [pollError] : [])];
    if (notes.textContent !== texts.join("")) fill(notes, texts.map((text) => h("li", {}, text)));
    dismiss.hidden = !isOver && !pollError && !(run && isSilent(run, now));
    dismiss.setAttribute("aria-label", `Dismiss ${name}`);
  }

  /** Draws the report again only if it has changed, because it can be scrolled. */
  function showReport(run) {
    const key = JSON.stringify(run?.counts?.pools ?? null);
    if (key === shownReport) return;
    shownReport = key;
    fill(report, refillReport(run));
  }

  return { node, update };
}
