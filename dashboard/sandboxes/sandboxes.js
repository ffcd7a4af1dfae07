// The view of all sandboxes.

import { columnChoice } from "./column-choice.js";
import { saveAs, toCsv } from "../lib/csv.js";
import { fill, h, scrollRegion, setText } from "../lib/dom.js";
import { COLUMNS, FIELDS } from "./fields.js";
import { filterBar } from "./filters.js";
import { clockTime, day, number, sandboxes } from "../lib/format.js";
import { createInventory } from "./inventory.js";
import { pager } from "../lib/pager.js";
import { createPoll } from "../lib/poll.js";
import { createSelection, pageOf } from "./rows.js";
import { showSandbox } from "./sandbox-details.js";
import { createTableBody } from "./table-body.js";

const EVERY_MS = 60_000;

export function sandboxesView({ api, overview, clock }) {
  const select = createSelection();
  let sort = { column: COLUMNS.find(({ key }) => key === "updated_at"), isDescending: true };
  let selected = [];
  let shownRows = null;
  let opened = null;

  const filters = filterBar(() => {
    pages.toFirst();
    draw();
  });
  const choice = columnChoice(() => {
    drawHead();
    draw();
  });
  const pages = pager(draw);
  const head = h("tr");
  const body = h("tbody");
  const renderBody = createTableBody(body, (row) => {
    opened = { id: row.sandbox_id, show: showSandbox(row, clock.now) };
  });
  const found = h("p", { class: "found", role: "status" });
  const progress = h("p", { class: "muted" });
  const trouble = h("p", { class: "fault", role: "status" });
  const reload = h("button", { type: "button", onclick: () => inventory.state.isLoading || poll.refresh() }, "Reload");
  const exporting = h("button", { type: "button", disabled: true, onclick: exportCsv }, "Export CSV");
  const node = h("div", { class: "card" },
    filters.node,
    h("div", { class: "bar-line" }, found, progress, reload, exporting),
    trouble,
    choice.node,
    scrollRegion("Sandboxes", h("table", { class: "sandboxes" },
      h("caption", { class: "hidden" }, "Sandboxes"), h("thead", {}, head), body)),
    pages.node);

  const inventory = createInventory({ api, now: clock.now, onChange: update });
  const poll = createPoll({
    everyMs: EVERY_MS,
    run: async () => {
      await inventory.load();
      setText(trouble, "");
    },
    onFailure: (error, wait) =>
      setText(trouble, `Loading broke off: ${error.message} Next attempt in ${Math.round(wait / 1000)} s.`),
  });

  function update({ rows, loaded, isLoading, isComplete, loadedAt }) {
    if (rows !== shownRows) {
      shownRows = rows;
      filters.offerLabs(rows);
      draw();
      showNews(rows, isComplete);
    }
    exporting.disabled = !isComplete;
    setText(progress, isLoading ? progressText(loaded) : loadedAt ? `Loaded at ${clockTime(loadedAt)}` : "");
    reload.setAttribute("aria-disabled", String(isLoading));
  }

  /** To the dialog that was opened last. */
  function showNews(rows, isComplete) {
    const row = rows.find(({ sandbox_id: id }) => id === opened?.id);
    if (row || isComplete) opened?.show(row ?? null);
  }

  function progressText(loaded) {
    const total = overview.get()?.counts.total;
    return total ? `${number(loaded)} of about ${number(total)}` : `${number(loaded)} loaded`;
  }

  function draw() {
    const { rows } = inventory.state;
    selected = select(rows, { ...sort, filter: filters.value() });
    const page = pageOf(selected, pages.page(), pages.size());
    pages.show(page.page, page.pages);
    renderBody(page.rows, choice.columns());
    setText(found, selected.length === rows.length
      ? sandboxes(rows.length)
      : `${number(selected.length)} of ${sandboxes(rows.length)} match`);
  }

  function drawHead() {
    fill(head, choice.columns().map((column) => {
      const isSorted = column.key === sort.column.key;
      const direction = isSorted ? (sort.isDescending ? "descending" : "ascending") : "none";
      return h("th", { scope: "col", "aria-sort": direction, "data-key": column.key },
        h("button", { type: "button", class: "sort", onclick: () => sortBy(column) }, column.label));
    }));
  }

  function sortBy(column) {
    const isSame = column.key === sort.column.key;
    sort = { column, isDescending: isSame && !sort.isDescending };
    pages.toFirst();
    drawHead();
    head.querySelector(`[data-key="${column.key}"] button`).focus();
    draw();
  }

  function exportCsv() {
    saveAs(`sandboxes-${day(clock.now())}.csv`, toCsv(FIELDS, selected));
  }

  drawHead();
  return { title: "Sandboxes", node, show: poll.start, hide: poll.stop, refresh: poll.refresh, destroy: poll.stop };
}
