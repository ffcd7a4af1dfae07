// The dialog of one sandbox: every field, the actions that its state and the operator's role allow, and its timeline. It is
// kept up to date while it is open.

import { fieldName, valueText } from "../lib/audit-record.js";
import { showDetails } from "../lib/dialogs.js";
import { errorLine, fill, h, setHref, setText } from "../lib/dom.js";
import { relative } from "../lib/format.js";
import { ACTIONS } from "./actions.js";
import { addressOfSandbox } from "./address.js";
import { askForAction } from "./action-dialog.js";
import { FIELDS } from "./fields.js";
import { failureText, perform } from "./perform.js";
import { hasEnd, timeLeftText } from "./time-left.js";
import { createTimeline } from "./timeline.js";

/** The broker writes the record of a refused action after its answer, within a moment as a rule. */
const REFUSAL_DELAYS_MS = [500, 5000];

/**
 * Opens the dialog. `row` is null for a sandbox that the table does not have. `onRow(id, row)` is called with each newer
 * row that the broker returns, or null if the sandbox is not in the pool. `time()` returns what texts that are live depend
 * on. Returns `{update, tick}`: `update` shows a newer row of the table, or with `null` that the sandbox has left the pool;
 * `tick` shows the passing of time.
 */
export function showSandbox({ id, row, context, time, onRow, onClose }) {
  const { api, clock, may } = context;
  let current = row; // The newest row, or the last one before the sandbox left the pool.
  let isInPool = row !== null;

  const values = FIELDS.map(({ href }) => {
    const link = href ? h("a") : null;
    return { node: h("dd", {}, link), link };
  });
  const notice = errorLine();
  const result = h("p", { class: "result", role: "status", tabindex: "-1" });
  const buttons = ACTIONS.map((action) =>
    h("button", { type: "button", class: action.isDanger ? "danger" : "", onclick: () => act(action) }, `${action.label} …`));
  const actions = h("div", { class: "row-actions", role: "group", "aria-label": "Actions" }, buttons);
  const list = h("dl", { class: "fields" }, FIELDS.map((field, index) => [h("dt", {}, field.label), values[index].node]));
  const remains = h("div"); // The facts known of a sandbox that is not in the pool, or not readable.
  const timeline = createTimeline({ api, clock, id, onLoaded: showKnown });

  function showRow(newer) {
    current = newer ?? current;
    isInPool = newer !== null;
    setText(notice, newer ? "" : "This sandbox is no longer in the pool. The values are the last known ones.");
    list.hidden = !current;
    tick();
    const isOffered = (action) => Boolean(newer) && may("operator") && action.allows(newer);
    ACTIONS.forEach((action, index) => { buttons[index].hidden = !isOffered(action); });
    actions.hidden = buttons.every(({ hidden }) => hidden);
  }

  function tick() {
    if (current) showFields(values, current, time());
  }

  function showKnown(known) {
    showRow(known?.sandbox ?? null);
    onRow(id, known?.sandbox ?? null);
    remains.hidden = isInPool;
    if (isInPool) return;
    const { unreadable, tombstone } = known ?? {};
    if (!known && !current) setText(notice, "Nothing is known of this sandbox: it is not in the pool, and no record names it.");
    else if (unreadable) setText(notice, `The item of this sandbox is unreadable: ${unreadable.fault}`);
    else if (!current) setText(notice, "This sandbox is not in the pool.");
    fill(remains, unreadable && fieldsOf(unreadable.attributes), tombstone && [h("h3", {}, "Tombstone"), fieldsOf(tombstone)]);
  }

  async function act(action) {
    const outcome = await askForAction(action, [current], {
      now: clock.now(),
      submit: (body) => perform(api, action, id, body),
    });
    if (!outcome) return;
    const { row: newer, error } = outcome;
    if (error) {
      report(`${action.label}: ${failureText(error)}`, { isError: true });
    } else {
      report(`${action.label}: done.`);
      showRow(newer);
      onRow(id, newer);
    }
    timeline.load(); // Its answer has the sandbox, too: what the table shows may be older.
    if (error) for (const delay of REFUSAL_DELAYS_MS) setTimeout(timeline.load, delay);
  }

  /** Shows the outcome, and moves the focus to it: the button of the action may be hidden now. */
  function report(text, { isError = false } = {}) {
    result.classList.toggle("error", isError);
    setText(result, text);
    result.focus();
  }

  if (row) showRow(row);
  else list.hidden = actions.hidden = true;
  showDetails({
    title: `Sandbox ${id}`,
    body: [notice, actions, result, h("div", { class: "two" }, h("div", {}, list, remains), timeline.node)],
    onClose,
  });
  timeline.load();

  function update(newer) {
    const isChanged = newer
      ? newer.updated_at !== current?.updated_at || newer.status !== current?.status
      : isInPool;
    if (newer || isInPool) showRow(newer); // The notice on a sandbox that is gone already says more.
    if (isChanged) timeline.load();
  }

  return { update, tick };
}

function showFields(values, row, time) {
  FIELDS.forEach((field, index) => {
    const text = detailText(field, row, time);
    const { node, link } = values[index];
    node.className = text ? "" : "muted";
    setText(link ?? node, text || "none");
    if (link) setHref(link, field.href(row));
  });
}

function detailText(field, row, time) {
  const text = field.exact(row);
  if (field.key === "expires_at" && hasEnd(row)) return `${text} (${timeLeftText(row, time)})`;
  return text && field.isTime ? `${text} (${relative(row[field.key], time.now)})` : text;
}

/** Returns a list of the values of an object that has no fixed fields. */
function fieldsOf(object) {
  const entries = Object.entries(object).filter(([, value]) => value !== null);
  return h("dl", { class: "fields" }, entries.map(([key, value]) => [h("dt", {}, fieldName(key)), h("dd", {}, valueNode(key, value))]));
}

/** Returns a value in words; the id of another sandbox leads to its details. */
function valueNode(key, value) {
  const isSandbox = (key === "replaces" || key === "replaced_by") && typeof value === "string";
  return isSandbox ? h("a", { href: addressOfSandbox(value) }, value) : valueText(key, value);
}
