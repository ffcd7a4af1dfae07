// The result of a check of the text: its faults, each with a way to its line, or its changes.

import { fill, h, scrollRegion, setText, table } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import { changesTable } from "./changes-table.js";
import { placeOf } from "./locate.js";
import { changesText } from "./policy-text.js";

/** The broker describes as many faults of a document at most. */
const MAX_FAULTS = 100;

/** `editor` has the text that is checked. */
export function createCheckResult(editor) {
  const summary = h("p", { role: "status", tabindex: "-1" });
  const note = h("p", { class: "muted" });
  const details = h("div");

  function show(text, { isError = false, body = null } = {}) {
    summary.className = isError ? "error" : "found";
    setText(summary, text);
    setText(note, "");
    fill(details, body);
  }

  return {
    node: h("div", { class: "check-result" }, summary, note, details),
    focus: () => summary.focus(),
    clear: () => show(""),
    /** Says that the result is about an earlier text. */
    markOutdated: () => setText(note, summary.textContent && "The text has changed since."),
    showProblem: (text) => show(text, { isError: true }),
    showNote: (text) => show(text),
    showFaults(faults) {
      const count = faults.length < MAX_FAULTS ? plural(faults.length, "fault") : `The first ${MAX_FAULTS} faults`;
      show(`${count}. Nothing was changed.`, { isError: true, body: faultTable(faults, editor) });
    },
    /** `changes` is null if the document in force cannot be read. */
    showChanges(changes, version) {
      if (changes === null) return show("No faults. The document in force cannot be read, so there is no difference to show.");
      const text = `No faults, and ${changesText(changes, version)}.`;
      show(text, { body: changes.length > 0 && changesTable(`Changes to version ${version}`, changes) });
    },
  };
}

function faultTable(faults, editor) {
  const node = table("Faults", ["Line", "Field", "Got", "Takes"], faults.map(({ path, got, takes }) =>
    [lineButton(path, editor), ...[path, got, takes].map((text) => h("bdi", {}, text))]));
  node.className = "narrow wrapped";
  return scrollRegion("Faults", node);
}

/** A button that moves the cursor to a fault, whose place is looked for in the text as it is then. */
function lineButton(path, editor) {
  const place = placeOf(editor.text(), path);
  if (!place) return "–";
  const goTo = () => editor.goTo(placeOf(editor.text(), path) ?? place);
  return h("button", { type: "button", class: "link", onclick: goTo }, h("span", { class: "hidden" }, "Line "), String(place.line));
}
