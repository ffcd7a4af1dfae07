// The view "Sandboxes": the table of all sandboxes, with filters, sorting, pages and the export.

import { saveCsv, toCsv } from "../lib/csv.js";
import { errorLine, fill, h, scrollRegion, setText } from "../lib/dom.js";
import { clockTime, day, number, sandboxes } from "../lib/format.js";
import { createPager } from "../lib/pager.js";
import { createPoll } from "../lib/poll.js";
import { addressOf, parseAddress } from "./address.js";
import { columnChoice } from "./column-choice.js";
import { COLUMNS, FIELDS } from "./fields.js";
import { filterBar } from "./filters.js";
import { createInventory } from "./inventory.js";
import { createSelection, pageOf } from "./rows.js";
import { showSandbox } from "./sandbox-details.js";
import { createTableBody } from "./table-body.js";
import { createUnreadableList } from "./unreadable-list.js";

const INTERVAL_MS = 60_000;

export function sandboxesView({ api, overview, clock }) {
  const select = createSelection();
  let sort = { column: COLUMNS.find(({ key }) => key === "updated_at"), isDescending: true };
  let selectedRows = []; // The rows that match the filter, in order.
  let loadedRows = null; // The rows that the table was last drawn from.
  let details = null; // The dialog opened last: the sandbox's id, and how to update what it shows.

  const filters = filterBar(() => {
    pager.reset();
    draw();
  });
  // Not at each key press, for which browsers refuse to change the address.
  filters.node.addEventListener("change", showAddress);
  const choice = columnChoice(() => {
    drawHead();
    draw();
  });
  const pager = createPager(draw);
  const head = h("tr");
  const body = h("tbody");
  const renderBody = createTableBody(body, (row) => {
    details = { id: row.sandbox_id, update: showSandbox(row, clock.now) };
  });
  const matchCount = h("p", { class: "found", role: "status" });
  const progress = h("p", { class: "muted" });
  const error = errorLine();
  const unreadableList = createUnreadableList();
  const reload = h("button", { type: "button", onclick: () => inventory.state.isLoading || poll.refresh() }, "Reload");
  const exportButton = h("button", { type: "button", disabled: true, onclick: exportCsv }, "Export CSV");
  const node = h("div", { class: "card" },
    filters.node,
    h("div", { class: "bar-line" }, matchCount, progress, reload, exportButton),
    error,
    unreadableList.node,
    choice.node,
    scrollRegion("Sandboxes", h("table", { class: "sandboxes" },
      h("caption", { class: "hidden" }, "Sandboxes"), h("thead", {}, head), body)),
    pager.node);

  const inventory = createInventory({ api, now: clock.now, onChange: update });
  const poll = createPoll({
    intervalMs: INTERVAL_MS,
    run: async () => {
      await inventory.load();
      setText(error, "");
    },
    onFailure: ({ message }, waitMs) =>
      setText(error, `Loading failed: ${message} Next attempt in ${Math.round(waitMs / 1000)} s.`),
  });

  function update({ rows, unreadable, loaded, isLoading, isComplete, loadedAt }) {
    unreadableList.show(unreadable);
    if (rows !== loadedRows) {
      loadedRows = rows;
      filters.offerLabs(rows);
      draw();
      updateDetails(rows, isComplete);
    }
    exportButton.disabled = !isComplete;
    setText(progress, isLoading ? progressText(loaded) : loadedAt ? `Loaded at ${clockTime(loadedAt)}` : "");
    reload.setAttribute("aria-disabled", String(isLoading));
  }

  function updateDetails(rows, isComplete) {
    const row = rows.find(({ sandbox_id: id }) => id === details?.id);
    if (row || isComplete) details?.update(row ?? null);
  }

  function progressText(loaded) {
    const total = overview.get()?.counts.total;
    return total ? `${number(loaded)} of about ${number(total)}` : `${number(loaded)} loaded`;
  }

  function draw() {
    const { rows } = inventory.state;
    selectedRows = select(rows, { ...sort, filter: filters.value() });
    const page = pageOf(selectedRows, pager.page(), pager.size());
    pager.show(page.page, page.pages);
    renderBody(page.rows, choice.columns());
    setText(matchCount, selectedRows.length === rows.length
      ? sandboxes(rows.length)
      : `${number(selectedRows.length)} of ${sandboxes(rows.length)} match`);
  }

  function drawHead() {
    fill(head, choice.columns().map((column) => {
      const isSorted = column.key === sort.column.key;
      const direction = isSorted ? (sort.isDescending ? "descending" : "ascending") : "none";
      return h("th", { scope: "col", "aria-sort": direction, "data-key": column.key },
        h("button", { type: "button", class: "sort", onclick: () => sortBy(column) }, column.label));
    }));
  }

  /** Follows an address. The bare one of the view, in the navigation, keeps the filter. */
  function open(rest) {
    const filter = parseAddress(rest);
    if (filter) {
      filters.set(filter);
      pager.reset();
      draw();
    }
    showAddress();
  }

  /** Makes the address that of the table with its filter, so that it can be copied and survives a reload. */
  function showAddress() {
    history.replaceState(null, "", addressOf(filters.value()));
  }

  /** Sorts by a column: ascending first, then in the other direction each time. */
  function sortBy(column) {
    const isSameColumn = column.key === sort.column.key;
    sort = { column, isDescending: isSameColumn && !sort.isDescending };
    pager.reset();
    drawHead();
    head.querySelector(`[data-key="${column.key}"] button`).focus();
    draw();
  }

  function exportCsv() {
    saveCsv(`sandboxes-${day(clock.now())}.csv`, toCsv(FIELDS, selectedRows));
  }

  drawHead();
  return { title: "Sandboxes", node, open, show: poll.start, hide: poll.stop, refresh: poll.refresh, destroy: poll.stop };
}
