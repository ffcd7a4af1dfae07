// The view of NIOSXaaS: whether services are deleted before their accounts, and how that went.

import { fill, h, scrollRegion, section, setText, table } from "../lib/dom.js";
import { dateTime, number } from "../lib/format.js";
import { createPoll } from "../lib/poll.js";

const PILLS = { cleaned: "succeeded", skipped: "interrupted", failed: "failed" };

export function niosxaasView({ api }) {
  const mode = h("p", { class: "lead" }, "Loading …");
  const tiles = h("dl", { class: "tiles" });
  const records = scrollRegion("NIOSXaaS records");
  const trouble = h("p", { class: "fault", role: "status" });
  const node = h("div", {},
    section("Mode", mode, trouble),
    section("Outcomes of the last 30 days", tiles),
    section("Records", h("p", { class: "muted" }, "The newest 200."), records));

  const poll = createPoll({
    everyMs: 30_000,
    onFailure: (error) => setText(trouble, `The records could not be loaded: ${error.message}`),
    run: async () => {
      const data = await api.get("/admin/niosxaas");
      setText(trouble, "");
      setText(mode, modeText(data));
      fill(tiles, ["cleaned", "skipped", "failed", "pending"].map((key) =>
        h("div", { class: `tile ${key}` }, h("dt", {}, key), h("dd", {}, number(data[key])))));
      fill(records, data.records.length ? recordTable(data.records) : h("p", { class: "muted" }, "No records yet."));
    },
  });

  return { title: "NIOSXaaS", node, show: poll.start, hide: poll.stop, destroy: poll.stop };
}

function modeText({ is_enabled: isEnabled, is_shadow: isShadow }) {
  if (!isEnabled) return "Off: accounts are deleted without looking at their NIOSXaaS services.";
  return isShadow
    ? "Shadow mode: services are looked for and reported, none is deleted."
    : "On: the services in an account are deleted before the account.";
}

function recordTable(records) {
  return table("NIOSXaaS records, newest first", ["Sandbox", "Outcome", "Detail", "When"],
    records.map(({ sandbox_id: id, outcome, detail, at }) => [
      id, h("span", { class: `pill ${PILLS[outcome] ?? ""}` }, outcome), detail ?? "", dateTime(at),
    ]));
}
