// The view "Audit": the audit records that match a filter, newest first.

import { errorLine, h, scrollRegion, setText } from "../lib/dom.js";
import { clockTime, plural } from "../lib/format.js";
import { recordExport } from "./export.js";
import { addressOf, parseFilter } from "./filter.js";
import { filterForm } from "./filter-form.js";
import { readPage } from "./reader.js";
import { recordTable } from "./record-table.js";

export function auditView({ api, clock }) {
  let filter = null; // Until the view is opened.
  let cursor = null;
  let count = 0;
  let loads = 0; // Only the answer to the latest load is shown.
  let isLoading = false;

  const form = filterForm(apply);
  const table = recordTable();
  const state = h("p", { class: "found", role: "status" });
  const error = errorLine();
  const older = h("button", { type: "button", hidden: true, onclick: () => isLoading || loadOlder() }, "Older");
  const reload = h("button", { type: "button", onclick: () => load() }, "Reload");
  const csv = recordExport({ api, clock, filter: () => filter });
  const node = h("div", { class: "card" },
    form.node,
    h("div", { class: "bar-line" }, state, csv.nodes, reload),
    error,
    scrollRegion("Audit records", table.node),
    h("div", { class: "pager" }, older));

  function apply(next) {
    filter = next;
    history.replaceState(null, "", addressOf(filter));
    load();
  }

  /** Follows an address. The one of the view without a filter, in the navigation, keeps the filter and reads new records. */
  function open(rest) {
    if (filter === null || rest) {
      filter = parseFilter(rest);
      form.set(filter);
    }
    history.replaceState(null, "", addressOf(filter));
    load();
  }

  async function load() {
    csv.cancel();
    table.clear();
    cursor = null;
    count = 0;
    await read();
  }

  async function loadOlder() {
    const firstRow = await read();
    // The button may be hidden now, and would leave the focus nowhere.
    firstRow?.focus();
  }

  async function read() {
    const turn = ++loads;
    isLoading = true;
    setText(error, "");
    setText(state, "Loading …");
    older.setAttribute("aria-disabled", "true");
    try {
      const page = await readPage(api, filter, cursor);
      if (turn !== loads) return null;
      cursor = page.cursor;
      count += page.records.length;
      setText(state, stateText());
      return table.append(page.records);
    } catch (cause) {
      if (turn === loads && !api.isClosed()) {
        setText(state, count > 0 ? plural(count, "record") : "");
        setText(error, `The records could not be loaded: ${cause.message}`);
      }
      return null;
    } finally {
      if (turn === loads) {
        isLoading = false;
        older.hidden = cursor === null;
        older.setAttribute("aria-disabled", "false");
      }
    }
  }

  function stateText() {
    const found = count > 0 ? plural(count, "record") : "No records";
    return cursor ? `${found} so far; there may be older ones.` : `${found} at ${clockTime(clock.now())}.`;
  }

  return { title: "Audit", node, open, show() {}, hide: csv.cancel, destroy: csv.cancel };
}
