// The card of the allocations whose play is likely over: their list and release, and the usual duration of each lab.

import { errorLine, fill, h, newId, rescueFocus, scrollRegion, section, setText, table } from "../lib/dom.js";
import { dateTime, number } from "../lib/format.js";
import { createPager } from "../lib/pager.js";
import { createPoll } from "../lib/poll.js";
import { ACTIONS } from "../sandboxes/actions.js";
import { addressOfSandbox } from "../sandboxes/address.js";
import { performOnAll } from "../sandboxes/bulk-action.js";
import { createCheckedRows } from "../sandboxes/checked-rows.js";
import { pageOf } from "../sandboxes/rows.js";
import { createSelectionBar } from "../sandboxes/selection-bar.js";
import { createTableBody } from "../sandboxes/table-body.js";
import { heldText, labCells, labOptions, ofLab, summaryText } from "./leak-text.js";
import { loadLeaks, releaseInBatches } from "./release-leaks.js";

const INTERVAL_MS = 60_000;
const RELEASE = ACTIONS.find(({ name }) => name === "release");
const COLUMNS = [
  { key: "sandbox_id", label: "Id" },
  { key: "name", label: "Name", text: ({ name }) => name },
  { key: "lab", label: "Lab", text: ({ lab }) => lab ?? "(no lab)" },
  { key: "caller", label: "Caller", text: ({ caller }) => caller ?? "" },
  { key: "allocated_at", label: "Allocated", text: (row) => dateTime(row.allocated_at) },
  { key: "extended_at", label: "Last extended", text: (row) => dateTime(row.extended_at) },
  { key: "held", label: "Held", text: heldText },
  { key: "expires_at", label: "Expires", text: (row) => dateTime(row.expires_at) },
];

/** Returns `{node, poll}`. */
export function leakCard(context) {
  const { api, may } = context;
  const mayAct = may("operator");
  const checkedRows = createCheckedRows();
  let rows = [];
  let shownRows = []; // The rows of the current page.
  let shownOptions = "";

  const lab = h("select", { id: newId("lab"), onchange: showFirstPage });
  const summary = h("p", { class: "found", role: "status" }, "Loading …");
  const error = errorLine();
  const pager = createPager(draw);
  const allOfPage = h("input", { type: "checkbox", "aria-label": "Select all on this page", onclick: checkPage });
  const all = h("button", { type: "button", onclick: checkAll });
  const selectionBar = createSelectionBar({
    actions: [RELEASE],
    onAction: releaseChecked,
    onClear() {
      checkedRows.clear();
      draw();
      allOfPage.focus(); // The button that had the focus is gone.
    },
  });
  const body = h("tbody");
  const rowsOfTable = createTableBody(body, {
    time: () => null,
    onOpen({ sandbox_id: id }) { location.hash = addressOfSandbox(id); },
    onCheck: check,
  });
  const list = h("table", { class: "sandboxes leaks" },
    h("caption", { class: "hidden" }, "Sandboxes whose play is likely over, the oldest allocation first"),
    h("thead", {}, h("tr", {},
      mayAct && h("th", { scope: "col", class: "select" }, allOfPage),
      COLUMNS.map(({ label }) => h("th", { scope: "col" }, label)))),
    body);
  const content = h("div", { hidden: true },
    h("div", { class: "filters" }, h("div", {}, h("label", { for: lab.id }, "Lab"), lab)),
    mayAct && h("div", { class: "bar-line" }, all),
    mayAct && selectionBar.node,
    scrollRegion("Sandboxes whose play is likely over", list),
    pager.node);
  const usual = scrollRegion("Usual durations");
  const labs = h("details", { class: "columns" }, h("summary", {}, "What is usual, by lab"), usual);
  const node = section("Play likely over",
    h("p", { class: "muted" }, "Allocations that have lasted for half as long again as is usual for their lab, since their start or last extension. Most are of plays whose cleanup script did not run, or failed. Nothing is released by itself."),
    summary, error, content, labs);

  const poll = createPoll({
    intervalMs: INTERVAL_MS,
    run: async () => {
      const loaded = await loadLeaks(api);
      rows = loaded.rows;
      setText(error, "");
      checkedRows.keepOnly(rows);
      drawLabs(loaded.labs);
      draw();
    },
    onFailure({ status, message }) {
      node.hidden = status === 404; // An older broker, during a deployment.
      setText(error, `The allocations could not be loaded: ${message}`);
    },
  });

  function drawLabs(histories) {
    labs.hidden = histories.length === 0;
    const durations = table("Usual durations", ["Lab", "Plays known", "Usual", "Likely over"], histories.map(labCells));
    durations.className = "narrow";
    fill(usual, durations);
  }

  /** Keeps the chosen lab, unless none of its sandboxes is left. */
  function drawOptions() {
    const options = labOptions(rows);
    if (JSON.stringify(options) === shownOptions) return;
    shownOptions = JSON.stringify(options);
    const chosen = options.some(({ value }) => value === lab.value) ? lab.value : "";
    fill(lab, h("option", { value: "" }, "any"), options.map(({ value, label }) => h("option", { value }, label)));
    lab.value = chosen;
  }

  function draw() {
    drawOptions();
    const page = pageOf(matching(), pager.page(), pager.size());
    shownRows = page.rows;
    pager.show(page.page, page.pages);
    rowsOfTable.render(shownRows, COLUMNS, mayAct ? checkedRows.has : null);
    node.hidden = false;
    content.hidden = rows.length === 0;
    setText(summary, summaryText(rows));
    setText(all, `Select all ${number(matching().length)}`);
    drawSelection();
  }

  function drawSelection() {
    const checked = checkedRows.among(rows);
    const onPage = checkedRows.among(shownRows).length;
    selectionBar.show(checked, checked.length - onPage);
    allOfPage.checked = onPage > 0 && onPage === shownRows.length;
    allOfPage.indeterminate = onPage > 0 && onPage < shownRows.length;
  }

  const matching = () => ofLab(rows, lab.value);
  const ids = (some) => some.map(({ sandbox_id: id }) => id);

  function showFirstPage() {
    pager.reset();
    draw();
  }

  function check({ sandbox_id: id }, event) {
    checkedRows.toggle(ids(shownRows), id, event);
    draw();
  }

  function checkPage() {
    checkedRows.set(ids(shownRows), allOfPage.checked);
    draw();
  }

  function checkAll() {
    checkedRows.set(ids(matching()), true);
    draw();
  }

  /** Releases the checked rows, then loads the list again, because a refusal means that it was out of date. */
  async function releaseChecked(action) {
    const newer = await performOnAll(action, checkedRows.among(rows), context, releaseInBatches(api));
    if (!newer) return;
    checkedRows.set([...newer.keys()], false);
    rows = rows.filter(({ sandbox_id: id }) => !newer.has(id));
    draw();
    rescueFocus(summary);
    poll.refresh();
  }

  return { node, poll };
}
