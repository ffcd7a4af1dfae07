// Tests the modules for policy and leases that do not need a browser.
import assert from "node:assert/strict";
import { describe, mock, test } from "node:test";

process.env.TZ = "Europe/Zurich";
const load = (name) => import(new URL(`../../dashboard/${name}.js`, import.meta.url));
const { placeOf } = await load("policy/locate");
const { createDraft } = await load("policy/draft");
const { createPolicyState } = await load("policy/policy-state");
const { changesText, valueText, versionText } = await load("policy/policy-text");
const { applyDocument } = await load("policy/requests");
const { timeLeftText } = await load("sandboxes/time-left");
const { longestLeaseByLab } = await load("overview/allocation-counts");
const { createApi } = await load("lib/api");

describe("places of faults", () => {
  const text = [
    "# [[lab]]",
    "defaults.replaced = 1",
    "[[lab]]",
    'id = "a" # max_held = 5',
    "[[ lab ]]",
    ' "max_held"= -1',
    'description = """',
    "max_replacements = 5",
    '"""',
    "'odd key' = 3",
    "[[pool]]",
    "[pool.create]",
    'tags = { a = "b" }',
    "[[pool]]",
    "[pool.create.admin_user]",
    'email = "x"',
  ].join("\n");
  const lineOf = (path) => placeOf(text, path)?.line;

  test("a field is found in its table, and an array of tables is counted", () => {
    assert.equal(lineOf("defaults.replaced"), 2);
    assert.equal(lineOf("lab[0].id"), 4);
    assert.equal(lineOf("lab[1].max_held"), 6);
    assert.equal(lineOf('lab[1]."odd key"'), 10);
    assert.equal(lineOf("pool[1].create.admin_user.email"), 16);
  });

  test("a field without a line of its own has that of the value or the table around it", () => {
    assert.equal(lineOf("lab[0].name_prefix"), 3);
    assert.equal(lineOf("lab[1].max_replacements"), 5, "a line in a text is no field");
    assert.equal(lineOf("pool[0].create.tags.a"), 13);
    assert.equal(lineOf("pool[1].name_prefix"), 14);
    assert.equal(lineOf("pool[1].create.description"), 14);
  });

  test("text that is no TOML has the place that the broker names, and some faults have none", () => {
    assert.deepEqual(placeOf(text, "line 4, column 9"), { line: 4, column: 9 });
    assert.equal(placeOf(text, "the document"), null);
    assert.equal(placeOf("", "lab[0].id"), null);
  });
});

describe("draft", () => {
  test("it follows the version in force until it is edited, and is kept while it is", () => {
    const kept = {};
    const draft = createDraft(kept);
    draft.follow({ version: 1, text: "a" });
    draft.follow({ version: 2, text: "b" });
    assert.deepEqual([draft.get().text, draft.get().base, draft.isEdited(), kept.policy], ["b", 2, false, null]);
    draft.edit("mine");
    draft.follow({ version: 3, text: "c" });
    assert.deepEqual([draft.get().text, draft.get().base, draft.isEdited()], ["mine", 2, true]);
    assert.equal(createDraft(kept).get().text, "mine");
    draft.rebase({ version: 3, text: "c" });
    assert.deepEqual([draft.get().text, draft.get().base, draft.isEdited()], ["mine", 3, true]);
    draft.discard({ version: 3, text: "c" });
    assert.deepEqual([draft.get().text, draft.isEdited(), kept.policy], ["c", false, null]);
  });
});

describe("policy", () => {
  test("a load that is requested during another one is made after it", async () => {
    const versions = [];
    const api = {
      isClosed: () => false,
      get: mock.fn(async () => ({ versions: versions.toReversed(), cursor: null })),
      getText: mock.fn(async (path, type, { version }) => `text ${version}`),
    };
    const policy = createPolicyState({ api });
    const first = policy.load();
    versions.push({ version: 1 });
    await Promise.all([first, policy.load()]);
    assert.deepEqual(policy.state.get().inForce, { version: 1, text: "text 1" });
    assert.equal(api.get.mock.callCount(), 2);
    await policy.load();
    assert.equal(api.getText.mock.callCount(), 1, "a document that is known is not read again");
    assert.ok(policy.isOlderThan(2) && !policy.isOlderThan(1));
  });

  test("a document is sent as TOML, with the version that it replaces, and its faults are returned", async () => {
    const faults = [{ path: "lab", got: "1", takes: "a list" }];
    const fetch = mock.method(globalThis, "fetch", async () => Response.json({ error: { code: "INVALID_POLICY", message: "no", faults } }, { status: 400 }));
    const api = createApi({ base: "/v1", token: "t" });
    await assert.rejects(applyDocument(api, { text: "lab = 1", base: 3, reason: "a & b" }), { faults });
    const [url, { method, headers, body }] = fetch.mock.calls[0].arguments;
    assert.deepEqual([url, method, body], ["/v1/admin/policy?reason=a+%26+b", "PUT", "lab = 1"]);
    assert.deepEqual([headers["if-match"], headers["content-type"]], ['"3"', "application/toml"]);
  });

  test("versions, changes and values are in words", () => {
    assert.equal(versionText({ version: 3, author: "ada", at: 1_774_000_007 }), "version 3 by ada at 2026-03-20 10:46:47");
    assert.equal(changesText([], 3), "no changes to version 3");
    assert.equal(changesText([{}, {}], 3), "2 changes to version 3");
    assert.deepEqual([null, 0, "a", { id: "b" }].map(valueText), ["none", "0", "a", '{"id":"b"}']);
  });
});

describe("leases", () => {
  const row = (end) => ({ status: "allocated", expires_at: end });

  test("the time left turns into the grace period, and then into the time since", () => {
    const text = (end, grace = 600) => timeLeftText(row(end), { now: 10_000, grace });
    assert.deepEqual([17_500, 10_000, 9999, 9400, 9399, 9000].map((end) => text(end)), [
      "2 h 5 min", "0 s", "in grace, 10 min left", "in grace, 0 s left", "overdue for 1 s", "overdue for 7 min",
    ]);
    assert.equal(text(9940, null), "ended 1 min ago");
    assert.equal(timeLeftText({ ...row(17_500), status: "pending_deletion" }, { now: 10_000, grace: 0 }), "");
    assert.equal(text(null), "");
  });

  test("the longest lease of a lab is from the allocation to its end", () => {
    const lease = (lab, from, to) => ({ track_name: lab, allocated_at: from, expires_at: to });
    const rows = [lease("a", 100, 300), lease("a", 100, 200), lease("b", 100, 101), lease(null, 1, 9), lease("c", 0, 9), lease("c", 5, null)];
    assert.deepEqual([...longestLeaseByLab(rows)], [["a", 200], ["b", 1]]);
  });
});
