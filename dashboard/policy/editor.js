// A text area with line numbers.

import { h, newId, setText } from "../lib/dom.js";

/** `onInput()` is called whenever the person changes the text. */
export function createEditor({ label, hint, onInput }) {
  const hintId = newId("hint");
  const numbers = h("pre", { class: "line-numbers", "aria-hidden": "true" });
  const area = h("textarea", {
    id: newId("editor"), "aria-describedby": hintId, spellcheck: "false", autocomplete: "off", autocapitalize: "off", wrap: "off",
    oninput() {
      number();
      onInput();
    },
    onscroll: () => { numbers.scrollTop = area.scrollTop; },
  });
  let lines = 0;

  function number() {
    const count = area.value.split("\n").length;
    if (count === lines) return;
    lines = count;
    setText(numbers, Array.from({ length: count }, (_, index) => index + 1).join("\n"));
    numbers.scrollTop = area.scrollTop;
  }
  number();

  return {
    node: h("div", {},
      h("label", { for: area.id }, label),
      h("p", { id: hintId, class: "muted" }, hint),
      h("div", { class: "editor" }, numbers, area)),
    text: () => area.value,
    setText(text) {
      if (area.value === text) return;
      area.value = text;
      number();
    },
    focus: () => area.focus(),
    /** Selects the text of a line from a column on, both from 1, and scrolls the line into view. */
    goTo({ line, column }) {
      const before = area.value.split("\n").slice(0, line - 1);
      const start = before.reduce((sum, text) => sum + text.length + 1, 0);
      const end = start + area.value.slice(start).split("\n")[0].length;
      area.focus();
      area.setSelectionRange(Math.min(start + column - 1, end), end);
      const height = Number.parseFloat(getComputedStyle(area).lineHeight);
      area.scrollTop = Math.max(0, (line - 4) * height);
      area.scrollLeft = 0;
    },
  };
}
