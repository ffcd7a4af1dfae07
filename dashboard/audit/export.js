// The CSV file of all records that match the filter, with its progress and a way to cancel.

import { RECORD_COLUMNS } from "../lib/audit-record.js";
import { saveCsv, toCsv } from "../lib/csv.js";
import { h, setText } from "../lib/dom.js";
import { day, number, plural } from "../lib/format.js";
import { readAll } from "./reader.js";

const MAX_RECORDS = 100_000;

/** `filter()` returns the filter that the records on the page match. */
export function recordExport({ api, clock, filter }) {
  let isCancelled = false;
  let isRunning = false;
  const start = h("button", { type: "button", onclick: () => (isRunning ? cancel() : run()) }, "Export CSV");
  const state = h("p", { class: "muted", role: "status" });

  function cancel() {
    if (!isRunning) return;
    isCancelled = true;
    setText(state, "Cancelled.");
  }

  async function run() {
    isRunning = true;
    isCancelled = false;
    // The same button, so that it keeps the focus.
    setText(start, "Cancel export");
    setText(state, "Reading …");
    try {
      const found = await readAll(api, filter(), {
        maxRecords: MAX_RECORDS,
        onProgress: (count) => setText(state, `${plural(count, "record")} read …`),
        isCancelled: () => isCancelled,
      });
      if (found) save(found);
    } catch ({ message }) {
      if (!isCancelled) setText(state, `The export failed: ${message}`);
    }
    isRunning = false;
    setText(start, "Export CSV");
  }

  function save({ records, isComplete }) {
    saveCsv(`audit-${day(clock.now())}.csv`, toCsv(RECORD_COLUMNS, records));
    setText(state, isComplete
      ? `${plural(records.length, "record")} exported.`
      : `The newest ${number(records.length)} records were exported; there are older ones. Set "To" to export those.`);
  }

  return { nodes: [state, start], cancel };
}
