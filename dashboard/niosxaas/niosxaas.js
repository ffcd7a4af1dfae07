// The view "NIOSXaaS": whether services are deleted before their accounts, and the outcome of each attempt.

import { errorLine, fill, h, scrollRegion, section, setText, table } from "../lib/dom.js";
import { dateTime, number } from "../lib/format.js";
import { createPoll } from "../lib/poll.js";

const INTERVAL_MS = 30_000;
const OUTCOMES = ["cleaned", "skipped", "failed", "pending"];
const PILL_CLASSES = { cleaned: "succeeded", skipped: "interrupted", failed: "failed" };

export function niosxaasView({ api }) {
  const mode = h("p", { class: "lead" }, "Loading …");
  const tiles = h("dl", { class: "tiles" });
  const records = scrollRegion("NIOSXaaS records");
  const error = errorLine();
  const node = h("div", {},
    section("Mode", mode, error),
    section("Outcomes of the last 30 days", tiles),
    section("Records", h("p", { class: "muted" }, "The newest 200."), records));

  const poll = createPoll({
    intervalMs: INTERVAL_MS,
    onFailure: ({ message }) => setText(error, `The records could not be loaded: ${message}`),
    run: async () => {
      const data = await api.get("/admin/niosxaas");
      setText(error, "");
      setText(mode, modeText(data));
      fill(tiles, OUTCOMES.map((key) =>
        h("div", { class: `tile ${key}` }, h("dt", {}, key), h("dd", {}, number(data[key])))));
      fill(records, data.records.length ? recordTable(data.records) : h("p", { class: "muted" }, "No records yet."));
    },
  });

  return { title: "NIOSXaaS", node, show: poll.start, hide: poll.stop, destroy: poll.stop };
}

function modeText({ is_enabled: isEnabled, is_shadow: isShadow }) {
  if (!isEnabled) return "Off: accounts are deleted without a check for NIOSXaaS services.";
  return isShadow
    ? "Shadow mode: services are listed and reported, but not deleted."
    : "On: the services in an account are deleted before the account.";
}

function recordTable(records) {
  return table("NIOSXaaS records, newest first", ["Sandbox", "Outcome", "Detail", "Time"],
    records.map(({ sandbox_id: id, outcome, detail, at }) => [
      id, h("span", { class: `pill ${PILL_CLASSES[outcome] ?? ""}` }, outcome), detail ?? "", dateTime(at),
    ]));
}
