// Turning pages.

import { h, setText } from "./dom.js";
import { number } from "./format.js";

const SIZES = [50, 100, 250];

/** `onTurn` is called when another page, or another size, is wanted. */
export function pager(onTurn) {
  let page = 0;
  let last = 0;
  const size = h("select", { id: "page-size", onchange: () => turn(0) }, SIZES.map((value) => h("option", { value: String(value) }, String(value))));
  const button = (label, target) => h("button", { type: "button", onclick: () => turn(target()) }, label);
  const [first, back, next, end] = [
    button("First", () => 0), button("Previous", () => page - 1), button("Next", () => page + 1), button("Last", () => last),
  ];
  const text = h("span", { class: "page-text" });

  function turn(to) {
    page = Math.min(Math.max(to, 0), last);
    onTurn();
  }

  return {
    node: h("nav", { class: "pager", "aria-label": "Pages of the table" },
      first, back, text, next, end,
      h("span", { class: "check" }, h("label", { for: "page-size" }, "Rows on a page"), size)),
    page: () => page,
    size: () => Number(size.value),
    toFirst: () => { page = 0; },
    show(shown, pages) {
      page = shown;
      last = pages - 1;
      setText(text, `Page ${number(page + 1)} of ${number(pages)}`);
      // Not `disabled`: that would take the focus from who has just pressed it.
      for (const backwards of [first, back]) backwards.setAttribute("aria-disabled", String(page === 0));
      for (const forwards of [next, end]) forwards.setAttribute("aria-disabled", String(page === last));
    },
  };
}
