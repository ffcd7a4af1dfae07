// The table of audit records.

import { actionName, actorText, changeTexts, outcomePill } from "../lib/audit-record.js";
import { h, reasonNode } from "../lib/dom.js";
import { exactTime, isoTime } from "../lib/format.js";
import { addressOfSandbox } from "../sandboxes/address.js";

const SANDBOX = "sandbox/";
const COLUMNS = ["Time", "Actor", "Action", "Target", "Outcome", "Reason", "Change", "Request"];

/** Returns `{node, clear(), append(records)}`; `append` returns the first new row, which can be focused. */
export function recordTable() {
  const body = h("tbody");
  return {
    node: h("table", { class: "audit" },
      h("caption", { class: "hidden" }, "Audit records, newest first"),
      h("thead", {}, h("tr", {}, COLUMNS.map((name) => h("th", { scope: "col" }, name)))),
      body),
    clear: () => body.replaceChildren(),
    append(records) {
      const rows = records.map(recordRow);
      body.append(...rows);
      return rows[0] ?? null;
    },
  };
}

function recordRow(record) {
  const { at, action, target, outcome, reason, request_id: requestId, address } = record;
  return h("tr", { tabindex: "-1" },
    h("th", { scope: "row" }, h("time", { datetime: isoTime(at) }, exactTime(at))),
    h("td", {}, h("bdi", {}, actorText(record))),
    h("td", {}, actionName(action)),
    h("td", {}, targetNode(target)),
    h("td", {}, outcomePill(outcome)),
    h("td", {}, reason && reasonNode(reason)),
    h("td", {}, changeTexts(record).map((text) => h("p", {}, h("bdi", {}, text)))),
    h("td", {}, [requestId, address && `from ${address}`].filter(Boolean).map((text) => h("small", { class: "line" }, text))));
}

/** A sandbox leads to its details. */
function targetNode(target) {
  if (!target.startsWith(SANDBOX)) return h("bdi", {}, target);
  return h("a", { href: addressOfSandbox(target.slice(SANDBOX.length)) }, h("bdi", {}, target));
}
