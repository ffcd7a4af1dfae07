// The filter above the table: a search, a status, a lab.

import { fill, h } from "../lib/dom.js";
import { STATUSES, statusName } from "../lib/format.js";
import { NO_LAB, labsOf } from "./rows.js";

/** `onChange` is called when the filter differs. */
export function filterBar(onChange) {
  const search = h("input", {
    id: "search", type: "search", autocomplete: "off", spellcheck: "false", placeholder: "id, name, caller, lab, external id, reason", oninput: onChange,
  });
  const status = h("select", { id: "status-filter", onchange: onChange },
    h("option", { value: "" }, "any"), STATUSES.map((key) => h("option", { value: key }, statusName(key))));
  const lab = h("select", { id: "lab-filter", onchange: onChange }, h("option", { value: "" }, "any"));
  let shownLabs = "";

  return {
    node: h("search", { class: "filters" },
      h("div", { class: "grow" }, h("label", { for: "search" }, "Search"), search),
      h("div", {}, h("label", { for: "status-filter" }, "Status"), status),
      h("div", {}, h("label", { for: "lab-filter" }, "Lab"), lab)),
    value: () => ({ search: search.value, status: status.value, lab: lab.value }),
    /** Offers the labs that occur; the chosen one stays, even if it has gone. */
    offerLabs(rows) {
      const { labs, someWithout } = labsOf(rows);
      const chosen = lab.value;
      if (chosen && chosen !== NO_LAB && !labs.includes(chosen)) labs.push(chosen);
      const key = JSON.stringify([labs, someWithout]);
      if (key === shownLabs) return;
      shownLabs = key;
      fill(lab,
        h("option", { value: "" }, "any"),
        (someWithout || chosen === NO_LAB) && h("option", { value: NO_LAB }, "(no lab)"),
        labs.map((name) => h("option", { value: name }, name)));
      lab.value = chosen;
    },
  };
}
