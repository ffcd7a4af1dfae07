// The view "Sandboxes": the table of all sandboxes, with filters, sorting, pages, the export and the actions of operators.

import { saveCsv, toCsv } from "../lib/csv.js";
import { errorLine, fill, h, scrollRegion, setText } from "../lib/dom.js";
import { clockTime, day, number, sandboxes } from "../lib/format.js";
import { createPager } from "../lib/pager.js";
import { createPoll } from "../lib/poll.js";
import { addressOf, addressOfSandbox, parseAddress } from "./address.js";
import { performOnAll } from "./bulk-action.js";
import { createCheckedRows } from "./checked-rows.js";
import { columnChoice } from "./column-choice.js";
import { COLUMNS, FIELDS } from "./fields.js";
import { filterBar } from "./filters.js";
import { createInventory } from "./inventory.js";
import { createSelection, pageOf } from "./rows.js";
import { showSandbox } from "./sandbox-details.js";
import { createSelectionBar } from "./selection-bar.js";
import { createTableBody } from "./table-body.js";
import { createUnreadableList } from "./unreadable-list.js";

const INTERVAL_MS = 60_000;
const TICK_MS = 1000;

export function sandboxesView(context) {
  const { api, overview, clock, may } = context;
  const select = createSelection();
  let sort = { column: COLUMNS.find(({ key }) => key === "updated_at"), isDescending: true };
  let matchingRows = []; // In order.
  let shownRows = []; // The rows of the current page.
  const checkedRows = createCheckedRows();
  let loadedRows = null; // The rows that the table was last drawn from.
  let details = null; // The dialog opened last: the sandbox's id, and how to update what it shows, also as time passes.

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
  /** The present, for the time that sandboxes have left. An older broker, during a deployment, does not name the grace period. */
  const time = () => ({ now: clock.now(), grace: overview.get()?.grace_period_seconds ?? null });
  const rowsOfTable = createTableBody(body, { time, onOpen: ({ sandbox_id: id }) => openSandbox(id), onCheck: check });
  let ticks = null;
  const allOfPage = h("input", { type: "checkbox", "aria-label": "Select all on this page", onclick: checkPage });
  const selectionBar = createSelectionBar({
    onAction: performOnChecked,
    onClear() {
      checkedRows.clear();
      draw();
      allOfPage.focus(); // The button that had the focus is gone.
    },
  });
  const matchCount = h("p", { class: "found", role: "status" });
  const progress = h("p", { class: "muted" });
  const showUnknown = h("button", { type: "button", hidden: true, onclick: () => openSandbox(filters.value().search.trim()) });
  const error = errorLine();
  const unreadableList = createUnreadableList();
  const reload = h("button", { type: "button", onclick: () => inventory.state.isLoading || poll.refresh() }, "Reload");
  const exportButton = h("button", { type: "button", disabled: true, onclick: exportCsv }, "Export CSV");
  const node = h("div", { class: "card" },
    filters.node,
    h("div", { class: "bar-line" }, matchCount, showUnknown, progress, reload, exportButton),
    error,
    unreadableList.node,
    choice.node,
    selectionBar.node,
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
      if (isComplete) checkedRows.keepOnly(rows);
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
    const filter = filters.value();
    matchingRows = select(rows, { ...sort, filter });
    const page = pageOf(matchingRows, pager.page(), pager.size());
    shownRows = page.rows;
    pager.show(page.page, page.pages);
    rowsOfTable.render(shownRows, choice.columns(), mayAct() ? checkedRows.has : null);
    setText(matchCount, matchingRows.length === rows.length
      ? sandboxes(rows.length)
      : `${number(matchingRows.length)} of ${sandboxes(rows.length)} match`);
    offerUnknown(filter.search.trim());
    drawSelection();
  }

  function drawSelection() {
    selectionBar.node.hidden = !mayAct();
    const checkedInPool = checkedRows.size() > 0 ? checkedRows.among(inventory.state.rows) : [];
    const checked = checkedRows.among(shownRows).length;
    selectionBar.show(checkedInPool, checkedInPool.length - checked);
    allOfPage.checked = checked > 0 && checked === shownRows.length;
    allOfPage.indeterminate = checked > 0 && checked < shownRows.length;
  }

  /** A search for an id may be about a sandbox that has left the pool. */
  function offerUnknown(search) {
    const isId = search !== "" && !/\s/.test(search);
    showUnknown.hidden = !inventory.state.isComplete || matchingRows.length > 0 || !isId;
    setText(showUnknown, `Show what is known of ${search}`);
  }

  const mayAct = () => may("operator");

  const pageIds = () => shownRows.map(({ sandbox_id: id }) => id);

  function check({ sandbox_id: id }, event) {
    checkedRows.toggle(pageIds(), id, event);
    draw();
  }

  function checkPage() {
    checkedRows.set(pageIds(), allOfPage.checked);
    draw();
  }

  async function performOnChecked(action) {
    const newer = await performOnAll(action, checkedRows.among(inventory.state.rows), context);
    if (!newer) return;
    checkedRows.set(newer.keys(), false);
    inventory.put(newer);
    draw();
    poll.refresh(); // The refused ones are not as the table has them.
  }

  /** Opens the details of a sandbox, which the table may not have. */
  function openSandbox(id) {
    const address = addressOfSandbox(id);
    history.replaceState(null, "", address);
    details = {
      id,
      ...showSandbox({
        id,
        row: inventory.state.rows.find((row) => row.sandbox_id === id) ?? null,
        context,
        time,
        onRow: (changed, row) => inventory.put([[changed, row]]),
        onClose() {
          if (details?.id === id) details = null;
          if (location.hash === address) showAddress();
        },
      }),
    };
  }

  function drawHead() {
    fill(head, mayAct() && h("th", { scope: "col", class: "select" }, allOfPage), choice.columns().map((column) => {
      const isSorted = column.key === sort.column.key;
      const direction = isSorted ? (sort.isDescending ? "descending" : "ascending") : "none";
      return h("th", { scope: "col", "aria-sort": direction, "data-key": column.key },
        h("button", { type: "button", class: "sort", onclick: () => sortBy(column) }, column.label));
    }));
  }

  /** Follows an address. The bare one of the view, in the navigation, keeps the filter. */
  function open(rest) {
    const { filter, id } = parseAddress(rest);
    if (id) return openSandbox(id);
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
    saveCsv(`sandboxes-${day(clock.now())}.csv`, toCsv(FIELDS, matchingRows));
  }

  function tick() {
    rowsOfTable.tick();
    details?.tick();
  }

  function show() {
    poll.start();
    tick();
    ticks = setInterval(tick, TICK_MS);
  }

  function hide() {
    poll.stop();
    clearInterval(ticks);
  }

  drawHead();
  return { title: "Sandboxes", node, open, show, hide, refresh: poll.refresh, destroy: hide };
}
