// The filters above the table: search, status, lab, and the beginning of the name.

import { fill, h } from "../lib/dom.js";
import { STATUSES, statusName } from "../lib/format.js";
import { NO_LAB, labsOf } from "./rows.js";

/** `onChange` is called when the operator changes a filter. */
export function filterBar(onChange) {
  const anyOption = () => h("option", { value: "" }, "any");
  const search = h("input", {
    id: "search", type: "search", autocomplete: "off", spellcheck: "false", oninput: onChange,
    placeholder: "id, name, caller, lab, external id, reason",
  });
  const status = h("select", { id: "status-filter", onchange: onChange },
    anyOption(), STATUSES.map((key) => h("option", { value: key }, statusName(key))));
  const lab = h("select", { id: "lab-filter", onchange: onChange }, anyOption());
  const prefix = h("input", { id: "prefix-filter", type: "search", autocomplete: "off", spellcheck: "false", oninput: onChange });
  let offeredLabs = ""; // As JSON, to see whether the options change.

  return {
    node: h("search", { class: "filters" },
      h("div", { class: "grow" }, h("label", { for: "search" }, "Search"), search),
      h("div", {}, h("label", { for: "status-filter" }, "Status"), status),
      h("div", {}, h("label", { for: "lab-filter" }, "Lab"), lab),
      h("div", {}, h("label", { for: "prefix-filter" }, "Name begins with"), prefix)),
    value: () => ({ search: search.value, status: status.value, lab: lab.value, prefix: prefix.value }),
    /** Sets the filters, as if the operator had chosen them. A status that the page does not know matches every sandbox. */
    set(filter) {
      search.value = filter.search;
      prefix.value = filter.prefix;
      status.value = STATUSES.includes(filter.status) ? filter.status : "";
      if (![...lab.options].some(({ value }) => value === filter.lab)) lab.append(labOption(filter.lab));
      lab.value = filter.lab;
    },
    /** Offers the labs of the rows. The chosen lab stays, even if no row has it any more. */
    offerLabs(rows) {
      const { labs, someWithout } = labsOf(rows);
      const chosen = lab.value;
      if (chosen && chosen !== NO_LAB && !labs.includes(chosen)) labs.push(chosen);
      const key = JSON.stringify([labs, someWithout]);
      if (key === offeredLabs) return;
      offeredLabs = key;
      fill(lab,
        anyOption(),
        (someWithout || chosen === NO_LAB) && h("option", { value: NO_LAB }, "(no lab)"),
        labs.map(labOption));
      lab.value = chosen;
    },
  };
}

const labOption = (name) => h("option", { value: name }, name);
