// The history of the policy: its versions, the difference between two of them, and the way back to an earlier one.

import { showDetails } from "../lib/dialogs.js";
import { errorLine, fill, h, newId, reasonNode, scrollRegion, section, setText } from "../lib/dom.js";
import { exactTime, isoTime, plural } from "../lib/format.js";
import { changesTable } from "./changes-table.js";
import { fetchDifference, fetchDocument } from "./requests.js";

const COLUMNS = ["Version", "Author", "Time", "Reason", "Document"];

/** `onRestore(version, text)` is called with an earlier document; without it, none can be restored. */
export function policyHistory({ api, policy, onRestore }) {
  const body = h("tbody");
  const table = h("table", { class: "wrapped" },
    h("caption", { class: "hidden" }, "Versions of the policy, newest first"),
    h("thead", {}, h("tr", {}, COLUMNS.map((name) => h("th", { scope: "col" }, name)))),
    body);
  const state = h("p", { class: "muted" }, "Loading …");
  const error = errorLine();
  const older = h("button", { type: "button", hidden: true, onclick: () => attempt(policy.loadOlder) }, "Older versions");
  const difference = differenceForm((from, to) => attempt(() => showDifference(from, to)));
  const node = section("History", state, difference.node, error, scrollRegion("Versions", table), h("div", { class: "pager" }, older));
  let shown = null; // The versions in the table: it is drawn again only with others, and keeps the focus.

  function show({ versions, cursor, inForce }) {
    older.hidden = cursor === null;
    if (versions === shown) return;
    shown = versions;
    setText(state, versions.length > 0 ? "" : "No policy has been applied yet.");
    table.hidden = versions.length === 0;
    // Version 0 is the empty document before the first one.
    difference.offer([...versions.map(({ version }) => version), ...(cursor === null ? [0] : [])]);
    const focused = body.querySelector(":focus")?.dataset.key;
    fill(body, versions.map((version) => row(version, version.version === inForce.version)));
    [...body.querySelectorAll("button")].find(({ dataset }) => dataset.key === focused)?.focus();
  }

  function row({ version, author, at, reason }, isInForce) {
    const button = (action, onclick) => h("button", { type: "button", "data-key": `${action} ${version}`, onclick },
      `${action} …`, h("span", { class: "hidden" }, ` version ${version}`));
    return h("tr", {},
      h("th", { scope: "row" }, String(version), isInForce && [" ", h("span", { class: "pill succeeded" }, "in force")]),
      h("td", {}, h("bdi", {}, author)),
      h("td", {}, h("time", { datetime: isoTime(at) }, exactTime(at))),
      h("td", {}, reason && reasonNode(reason)),
      h("td", {}, h("div", { class: "bar-line" },
        button("Show", () => attempt(() => showDocument(version))),
        onRestore && !isInForce && button("Restore", () => attempt(async () => onRestore(version, await fetchDocument(api, version)))))));
  }

  async function showDocument(version) {
    const text = await fetchDocument(api, version);
    const label = `Document of version ${version}`;
    showDetails({ title: `Version ${version}`, body: scrollRegion(label, h("pre", {}, text)) });
  }

  async function showDifference(from, to) {
    const { changes } = await fetchDifference(api, from, to);
    const title = `From version ${from} to version ${to}`;
    showDetails({
      title,
      body: [h("p", {}, changes.length > 0 ? `${plural(changes.length, "change")}.` : "The documents are the same."),
        changes.length > 0 && changesTable(title, changes)],
    });
  }

  async function attempt(request) {
    try {
      await request();
      setText(error, "");
    } catch ({ message }) {
      if (!api.isClosed()) setText(error, message);
    }
  }

  const unsubscribe = policy.state.subscribe((loaded) => loaded && show(loaded));
  return { node, showDifference: (from, to) => attempt(() => showDifference(from, to)), destroy: unsubscribe };
}

/** The form that chooses two versions. */
function differenceForm(onChoose) {
  const [from, to] = ["From version", "To version"].map((label) => ({ label, input: h("select", { id: newId("version") }) }));
  const node = h("form", { class: "filters", hidden: true, onsubmit: send },
    [from, to].map(({ label, input }) => h("div", {}, h("label", { for: input.id }, label), input)),
    h("button", {}, "Difference"));

  function send(event) {
    event.preventDefault();
    onChoose(Number(from.input.value), Number(to.input.value));
  }

  /** Offers versions, newest first: the last change unless others are chosen. */
  function offer(versions) {
    node.hidden = versions.length < 2;
    [[from, 1], [to, 0]].forEach(([{ input }, index]) => {
      const chosen = input.value;
      const wasDefault = input.selectedIndex === index;
      fill(input, versions.map((version) => h("option", { value: String(version) }, String(version))));
      const isKept = chosen && !wasDefault && versions.includes(Number(chosen));
      input.value = isKept ? chosen : String(versions[Math.min(index, versions.length - 1)]);
    });
  }

  return { node, offer };
}
