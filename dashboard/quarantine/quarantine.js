// The view "Quarantine": the sandboxes that were set aside, by whom and why, and the ways out for one and for several.

import { errorLine, h, newId, rescueFocus, scrollRegion, section, setText } from "../lib/dom.js";
import { sandboxes } from "../lib/format.js";
import { createPager } from "../lib/pager.js";
import { createPoll } from "../lib/poll.js";
import { ACTIONS } from "../sandboxes/actions.js";
import { askForAction } from "../sandboxes/action-dialog.js";
import { performOnAll } from "../sandboxes/bulk-action.js";
import { createCheckedRows } from "../sandboxes/checked-rows.js";
import { createInventory } from "../sandboxes/inventory.js";
import { failureText, perform } from "../sandboxes/perform.js";
import { pageOf, sortRows } from "../sandboxes/rows.js";
import { showSandbox } from "../sandboxes/sandbox-details.js";
import { createSelectionBar } from "../sandboxes/selection-bar.js";
import { createTableBody } from "../sandboxes/table-body.js";
import { quarantineColumns } from "./columns.js";
import { GROUPS, countsText, groupOf } from "./set-aside.js";

const INTERVAL_MS = 30_000;
/** The ways out of the quarantine. */
const WAYS_OUT = ACTIONS.filter(({ name }) => name === "restore" || name === "delete");

export function quarantineView(context) {
  const { api, overview, clock, may, announce } = context;
  const mayAct = may("operator");
  const columns = quarantineColumns({ actions: mayAct ? WAYS_OUT : [], onAct: performOnOne });
  const checkedRows = createCheckedRows();
  let shownRows = []; // The rows of the current page.
  let details = null; // The dialog opened last: the sandbox's id, and how to update what it shows.

  const group = h("select", { id: newId("group"), onchange: showFirstPage },
    h("option", { value: "" }, "any"), GROUPS.map(({ key, label }) => h("option", { value: key }, label)));
  const summary = h("p", { class: "found", role: "status" }, "Loading …");
  const error = errorLine();
  const pager = createPager(draw);
  const allOfPage = h("input", { type: "checkbox", "aria-label": "Select all on this page", onclick: checkPage });
  const selectionBar = createSelectionBar({
    actions: WAYS_OUT,
    onAction: performOnChecked,
    onClear() {
      checkedRows.clear();
      draw();
      allOfPage.focus(); // The button that had the focus is gone.
    },
  });
  const body = h("tbody");
  const time = () => ({ now: clock.now(), grace: overview.get()?.grace_period_seconds ?? null });
  const rowsOfTable = createTableBody(body, { time, onOpen: openSandbox, onCheck: check });
  const table = h("table", { class: "sandboxes quarantine" },
    h("caption", { class: "hidden" }, "Quarantined sandboxes, the latest first"),
    h("thead", {}, h("tr", {},
      mayAct && h("th", { scope: "col", class: "select" }, allOfPage),
      columns.map(({ label }) => h("th", { scope: "col" }, label)))),
    body);
  const content = h("div", { hidden: true },
    h("div", { class: "filters" }, h("div", {}, h("label", { for: group.id }, "Set aside by"), group)),
    mayAct && selectionBar.node,
    scrollRegion("Quarantined sandboxes", table),
    pager.node);
  const node = section("Set aside",
    h("p", { class: "muted" }, "These sandboxes are neither allocated nor deleted, until somebody ends their quarantine or its time is over. One that never had a holder can be restored; one that had a holder can only be deleted."),
    summary, error, content);

  const inventory = createInventory({ api, params: { status: "quarantined" }, now: clock.now, onChange: update });
  const poll = createPoll({
    intervalMs: INTERVAL_MS,
    run: async () => {
      await inventory.load();
      setText(error, "");
    },
    onFailure: ({ message }) => setText(error, `The quarantined sandboxes could not be loaded: ${message}`),
  });

  /** The sandboxes in the quarantine: an action may have moved some out of it since they were loaded. */
  const quarantined = () => inventory.state.rows.filter(({ status }) => status === "quarantined");

  function update({ rows, isComplete }) {
    if (isComplete) checkedRows.keepOnly(quarantined());
    if (isComplete || rows.length > 0) draw();
    const row = rows.find(({ sandbox_id: id }) => id === details?.id);
    if (row) details.update(row);
  }

  function draw() {
    const all = quarantined();
    const matching = sortRows(all.filter((row) => !group.value || groupOf(row) === group.value), (row) => row.quarantined_at, true);
    const page = pageOf(matching, pager.page(), pager.size());
    shownRows = page.rows;
    pager.show(page.page, page.pages);
    rowsOfTable.render(shownRows, columns, mayAct ? checkedRows.has : null);
    content.hidden = all.length === 0;
    setText(summary, all.length === 0 ? "No sandbox is quarantined." : `${sandboxes(all.length)}: ${countsText(all)}.`);
    drawSelection();
  }

  function drawSelection() {
    const checked = checkedRows.among(quarantined());
    const onPage = checkedRows.among(shownRows).length;
    selectionBar.show(checked, checked.length - onPage);
    allOfPage.checked = onPage > 0 && onPage === shownRows.length;
    allOfPage.indeterminate = onPage > 0 && onPage < shownRows.length;
  }

  function showFirstPage() {
    pager.reset();
    draw();
  }

  const pageIds = () => shownRows.map(({ sandbox_id: id }) => id);

  function check({ sandbox_id: id }, event) {
    checkedRows.toggle(pageIds(), id, event);
    draw();
  }

  function checkPage() {
    checkedRows.set(pageIds(), allOfPage.checked);
    draw();
  }

  async function performOnOne(action, { sandbox_id: id }) {
    const row = inventory.state.rows.find((one) => one.sandbox_id === id);
    const outcome = await askForAction(action, [row], {
      now: clock.now(),
      submit: (entered) => perform(api, action, id, entered),
    });
    if (!outcome) return;
    if (outcome.error) announce(`${action.label} ${id}: ${failureText(outcome.error)}`, { isError: true });
    else announce(`${action.label} ${id}: done.`);
    showChanged(outcome.row ? [[id, outcome.row]] : []);
  }

  async function performOnChecked(action) {
    const newer = await performOnAll(action, checkedRows.among(quarantined()), context);
    if (newer) showChanged(newer);
  }

  /** Shows newer rows, by id, and loads all again: those that were refused are not as the table has them. */
  function showChanged(newer) {
    for (const [id] of newer) checkedRows.set([id], false);
    inventory.put(newer);
    draw();
    rescueFocus(summary);
    poll.refresh();
  }

  function openSandbox(row) {
    const { sandbox_id: id } = row;
    details = {
      id,
      ...showSandbox({
        id, row, context, time,
        onRow: (changed, newer) => inventory.put([[changed, newer]]),
        onClose() {
          if (details?.id === id) details = null;
        },
      }),
    };
  }

  return {
    title: "Quarantine",
    node,
    show: poll.start,
    hide: poll.stop,
    refresh: poll.refresh,
    destroy: poll.stop,
  };
}
