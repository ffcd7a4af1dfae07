// One action on several sandboxes: one confirmation, and one result for each.

import { showDetails } from "../lib/dialogs.js";
import { h, scrollRegion, setText, table } from "../lib/dom.js";
import { number, sandboxes, statusName } from "../lib/format.js";
import { askForAction } from "./action-dialog.js";
import { failureText, forEach, perform } from "./perform.js";

/** Returns how an action is performed on several sandboxes with a request for each. */
const oneByOne = (api, action) => (rows, body, { onSent, onResult, isStopped }) => forEach(rows, (row) => {
  onSent(row);
  return perform(api, action, row.sandbox_id, body);
}, onResult, isStopped);

/**
 * Asks the operator, and performs the action on those of the rows whose state allows it. Returns the newer rows by id, or
 * null if the operator cancels. No refusal ends the others; closing the dialog does, apart from the requests under way.
 * `send(rows, body, {onSent, onResult, isStopped})` sends the requests, and calls `onSent(row)` and then
 * `onResult(row, {row} or {error})` for each row.
 */
export async function performOnAll(action, rows, { api, clock, announce }, send = oneByOne(api, action)) {
  const [sent, skipped] = [rows.filter(action.allows), rows.filter((row) => !action.allows(row))];
  const body = await askForAction(action, sent, {
    now: clock.now(),
    note: skipped.length > 0 && `${sandboxes(skipped.length)} of ${number(rows.length)} selected will be left out, because of their status.`,
    submit: (entered) => entered,
  });
  if (!body) return null;

  const lines = new Map(rows.map((row) => [row, createLine(row)]));
  const counts = { done: 0, refused: 0, failed: 0 };
  const answered = () => counts.done + counts.refused + counts.failed;
  const bar = h("progress", { max: String(sent.length), value: "0", "aria-label": `Progress of ${action.label}` });
  const summary = h("p", { role: "status" }, "Closing this dialog leaves out the sandboxes whose request has not been sent.");
  let isClosed = false;
  showDetails({
    title: `${action.label}: ${sandboxes(sent.length)}`,
    body: [
      bar, summary,
      scrollRegion("Results", table("Results", ["Sandbox", "Name", "Result"], [...lines.values()].map(({ cells }) => cells))),
    ],
    onClose: () => { isClosed = true; },
  });
  for (const row of skipped) lines.get(row).show("left out", `It is ${statusName(row.status)}.`);

  const newer = new Map();
  const onSent = (row) => lines.get(row).show("sent …");
  const isStopped = () => isClosed || api.isClosed();
  function onResult(row, { row: after, error }) {
    const outcome = error ? (error.isRefusal ? "refused" : "failed") : "done";
    counts[outcome] += 1;
    bar.value = answered();
    if (after) newer.set(row.sandbox_id, after);
    if (error) lines.get(row).show(outcome, failureText(error), "failed");
    else lines.get(row).show(outcome, `Now ${statusName(after.status)}.`, "succeeded");
  }
  await send(sent, body, { onSent, onResult, isStopped });

  if (api.isClosed()) return null; // The operator has signed out in the meantime.
  const all = Object.entries({ ...counts, "not sent": sent.length - answered(), "left out": skipped.length });
  const text = `${action.label}: ${all.filter(([, count]) => count > 0).map(([outcome, count]) => `${number(count)} ${outcome}`).join(", ")}.`;
  setText(summary, text);
  if (isClosed) announce(text, { isError: counts.done < sent.length });
  return newer;
}

/** Returns the cells of a row's line, and how to show its result. */
function createLine({ sandbox_id: id, name }) {
  const pill = h("span", { class: "pill" }, "waiting");
  const detail = h("span");
  return {
    cells: [id, name, [pill, " ", detail]],
    show(state, text = "", kind = "") {
      pill.className = `pill ${kind}`;
      setText(pill, state);
      setText(detail, text);
    },
  };
}
