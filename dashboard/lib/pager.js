// The controls for moving between the pages of a table.

import { h, setText } from "./dom.js";
import { number } from "./format.js";

const PAGE_SIZES = [50, 100, 250];

/** `onChange` is called when the operator selects another page or page size. */
export function createPager(onChange) {
  let page = 0; // Counted from 0.
  let lastPage = 0;
  const size = h("select", { id: "page-size", onchange: () => goTo(0) },
    PAGE_SIZES.map((value) => h("option", { value: String(value) }, String(value))));
  const button = (label, target) => h("button", { type: "button", onclick: () => goTo(target()) }, label);
  const [first, previous, next, last] = [
    button("First", () => 0), button("Previous", () => page - 1), button("Next", () => page + 1), button("Last", () => lastPage),
  ];
  const position = h("span", { class: "page-text" });

  function goTo(target) {
    page = Math.min(Math.max(target, 0), lastPage);
    onChange();
  }

  return {
    node: h("nav", { class: "pager", "aria-label": "Pages of the table" },
      first, previous, position, next, last,
      h("span", { class: "check" }, h("label", { for: "page-size" }, "Rows per page"), size)),
    page: () => page,
    size: () => Number(size.value),
    reset: () => { page = 0; },
    /** Shows that `current` of `count` pages is displayed. */
    show(current, count) {
      page = current;
      lastPage = count - 1;
      setText(position, `Page ${number(page + 1)} of ${number(count)}`);
      // Not `disabled`, which would take the focus away from the button that was just pressed.
      for (const backward of [first, previous]) backward.setAttribute("aria-disabled", String(page === 0));
      for (const forward of [next, last]) forward.setAttribute("aria-disabled", String(page === lastPage));
    },
  };
}
