// Tests what the dashboard shows of leases: the time left, extensions, replacements, and the labs with their quotas.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { assertAccessible } from "./accessible.mjs";
import { allocate, applyPolicy, editAnswers, openDashboard, release } from "./operator.mjs";

const timeout = 60_000;
// Runs a script if the browser parses it as HTML.
const HTML = "<img src='x' onerror='globalThis.ran=1'>";
const GRACE = 1800;
const QUOTA = 4;
const plays = [];
let page, assertNoErrors, signIn, openSandboxes, exportedRows;

before(() => applyPolicy(`[[lab]]\nid = "leases-101"\nmax_held = ${QUOTA}\n`));

beforeEach(async () => {
  ({ page, assertNoErrors, signIn, openSandboxes, exportedRows } = await openDashboard());
});

afterEach(async () => {
  await page.unrouteAll({ behavior: "wait" });
  await page.close();
  assertNoErrors();
});

after(async () => {
  for (const play of plays) await release(play);
  await applyPolicy("\n");
});

async function allocateNext(lab) {
  const play = await allocate(`leases-${process.pid}-${plays.length}`, lab);
  plays.push({ ...play, lab });
  return play;
}

/** Returns as many sandboxes of a lab as the policy of this file permits. */
async function fillLab() {
  const held = () => plays.filter(({ lab }) => lab === "leases-101");
  while (held().length < QUOTA) await allocateNext("leases-101");
  return held();
}

const edit = (pattern, change) => editAnswers(page, pattern, change);

/** Changes sandboxes wherever the broker answers with them: `changes` are their fields by id. */
async function editSandboxes(changes) {
  const changed = (row) => (row ? { ...row, ...changes[row.sandbox_id] } : row);
  await edit("**/admin/sandboxes?*", (json) => ({ ...json, sandboxes: json.sandboxes.map(changed) }));
  await edit("**/admin/sandboxes/*", (json) => ({ ...json, sandbox: changed(json.sandbox) }));
  await edit("**/admin/overview", (json) => ({ ...json, grace_period_seconds: GRACE }));
}

test("the table shows the time left, extensions and replacements, and leads from one sandbox to the other", { timeout }, async () => {
  const [{ id: oldId }, { id: newId }, { id: graceId }, { id: overdueId }] = await fillLab();
  const now = Math.floor(Date.now() / 1000);
  await editSandboxes({
    [oldId]: { status: "pending_deletion", replaced_by: newId, replacement_reason: HTML },
    [newId]: { expires_at: now + 55, extensions: 2, extended_at: now - 60, replaces: oldId },
    [graceId]: { expires_at: now - GRACE + 615 },
    [overdueId]: { expires_at: now - GRACE - 600 },
  });
  await signIn();
  await openSandboxes();
  await page.getByRole("searchbox", { name: "Search" }).fill(`leases-101 leases-${process.pid}-`);
  const row = (id) => page.locator("table.sandboxes tbody tr").filter({ has: page.getByRole("button", { name: id, exact: true }) });
  const cell = async (id, column) => {
    const heads = await page.locator("table.sandboxes thead th").allInnerTexts();
    return row(id).locator("th, td").nth(heads.indexOf(column));
  };
  const texts = (column) => Promise.all([oldId, newId, graceId, overdueId].map(async (id) => (await cell(id, column)).innerText()));
  await row(graceId).getByText("in grace").waitFor(); // The overview, which has the grace period, is loaded.
  const [none, left, grace, overdue] = await texts("Time left");
  assert.equal(none, "");
  assert.match(left, /^\d+ s$/);
  assert.match(grace, /^in grace, 10 min left$/);
  assert.match(overdue, /^overdue for 1\d min$/);
  assert.match(await (await cell(newId, "Time left")).getAttribute("title"), /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
  assert.deepEqual(await texts("Extended"), ["", "2 ×", "", ""]);
  assert.equal(await (await cell(oldId, "Reason of the replacement")).innerText(), HTML);
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
  while (await (await cell(newId, "Time left")).innerText() === left) await page.waitForTimeout(100); // It is live.

  const head = page.getByRole("columnheader", { name: "Time left" });
  await head.getByRole("button").click();
  const order = await page.locator("table.sandboxes tbody th button").allInnerTexts();
  assert.deepEqual(order, [overdueId, graceId, newId, oldId]);
  const [header, ...lines] = await exportedRows();
  const exported = (key) => lines.map((line) => line[header.indexOf(key)]);
  assert.deepEqual(exported("extensions"), ["0", "0", "2", "0"]);
  assert.deepEqual(exported("replaced_by"), ["", "", "", newId]);

  await (await cell(oldId, "Replaced by")).getByRole("link", { name: newId }).click();
  const details = (id) => page.getByRole("dialog", { name: `Sandbox ${id}`, exact: true });
  await details(newId).getByText(/^\d{4}-.* \(\d+ s\)$/).waitFor();
  await assertAccessible(page, "details");
  await details(newId).getByRole("link", { name: oldId }).click();
  await details(oldId).getByRole("link", { name: newId }).waitFor();
  assert.equal(await details(newId).count(), 0);
  assert.match(page.url(), new RegExp(`#/sandboxes/${oldId}$`));
  assert.ok((await details(oldId).innerText()).includes(HTML));
});

test("the tombstone of a replaced sandbox leads to its successor", { timeout }, async () => {
  const [{ id }, { id: newId }] = [await allocateNext("leases-103"), await allocateNext("leases-103")];
  await edit(`**/admin/sandboxes/${id}*`, (json) => ({ ...json, sandbox: null, tombstone: { sandbox_id: id, replaced_by: newId } }));
  await signIn();
  await page.goto(`${page.url().split("#")[0]}#/sandboxes/${id}`);
  const details = (id) => page.getByRole("dialog", { name: `Sandbox ${id}`, exact: true });
  await details(id).getByRole("link", { name: newId, exact: true }).click();
  await details(newId).getByText("allocated", { exact: true }).waitFor();
});

test("the labs that the policy names are shown with their quotas, and lead to their sandboxes", { timeout }, async () => {
  const { id } = await allocateNext("leases-102");
  const full = `full ${HTML}`;
  await editSandboxes({ [id]: { allocated_at: 1_774_000_000, expires_at: 1_774_000_000 + 5 * 3600 } });
  await edit("**/admin/overview", (json) => ({
    ...json,
    labs: [
      { lab: "other", held: 90, max_held: null }, { lab: "leases-102", held: 1, max_held: 60 },
      { lab: "no-quota", held: 3, max_held: null }, { lab: full, held: 2, max_held: 2 },
    ],
  }));
  await signIn();
  const region = page.getByRole("region", { name: "Labs" });
  await region.getByText("5 h").waitFor();
  const rows = await region.getByRole("row").allInnerTexts();
  assert.deepEqual(rows.map((text) => text.split(/\s*\t\s*/)), [
    ["Lab", "Held", "Quota", "Longest lease"],
    ["no-quota", "3", "none", "–"], [full, "2", "2 of 2, full", "–"], ["leases-102", "1", "1 of 60", "5 h"], ["other labs", "90", "–", "–"],
  ]);
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
  await page.setViewportSize({ width: 360, height: 800 });
  await page.getByLabel("Theme").selectOption("dark");
  await assertAccessible(page, "overview with labs, dark, 360 px");
  await region.getByRole("link", { name: "leases-102" }).click();
  await page.getByText(/^1 of .* match$/).waitFor();
  await page.getByRole("button", { name: id, exact: true }).waitFor();
  await page.evaluate(() => localStorage.clear());
});

test("the quota of a lab is filled by the sandboxes that it holds", { timeout }, async () => {
  await fillLab();
  await signIn();
  const row = page.getByRole("region", { name: "Labs" }).getByRole("row").filter({ hasText: "leases-101" });
  await row.getByText(`${QUOTA} of ${QUOTA}, full`).waitFor(); // The broker counts every ten seconds.
});
