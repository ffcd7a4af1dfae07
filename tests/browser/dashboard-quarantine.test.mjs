// Tests the page of the quarantined sandboxes: who set them aside, why, and the ways out for one and for several.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { assertAccessible } from "./accessible.mjs";
import { allSandboxes, allocate, api, createToken, editAnswers, openDashboard, send } from "./operator.mjs";

const timeout = 60_000;
// Runs a script if the browser parses it as HTML.
const HTML = "<img src='x' onerror='globalThis.ran=1'>";
const NOW = Math.floor(Date.now() / 1000);
let page, assertNoErrors, expectErrors, signIn, openView;
let free = []; // Available sandboxes that this file has set aside.
let held; // One that had a holder.

const act = (id, action, reason) => send("POST", `/admin/sandboxes/${encodeURIComponent(id)}/${action}`, { body: { reason } });

before(async () => {
  // First the one that is allocated, which may be any.
  held = (await allocate(`quarantine-${process.pid}`, "quarantine-101")).id;
  const available = (await allSandboxes()).filter(({ status }) => status === "available").slice(-4);
  free = available.map(({ sandbox_id: id }) => id);
  for (const id of [...free, held]) assert.equal((await act(id, "quarantine", `${HTML} ${id}`)).status, 200);
});

after(async () => {
  for (const id of free) await act(id, "restore", "end of the test");
  await act(held, "delete", "end of the test");
});

beforeEach(async () => {
  ({ page, assertNoErrors, expectErrors, signIn, openView } = await openDashboard());
});

afterEach(async () => {
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.close();
  assertNoErrors();
});

const row = (id) => page.locator("table.quarantine tbody tr").filter({ has: page.getByRole("button", { name: id, exact: true }) });

/** Changes the quarantined sandboxes that the broker answers with: `changes` are their fields by id. */
const edit = (changes) => editAnswers(page, "**/admin/sandboxes?*", (json) => ({
  ...json, sandboxes: json.sandboxes.map((one) => ({ ...one, ...changes[one.sandbox_id] })),
}));

test("the list says who set each sandbox aside, since when and why", { timeout }, async () => {
  const [byCheck, byOperator, earlier] = free;
  await edit({
    [byCheck]: { quarantined_by: "check", quarantine_reason: `not usable for 30 min: ${HTML}`, quarantined_from: "provisioning" },
    [held]: { replaced_by: "77", quarantined_by: "ci", quarantine_reason: "no DNS" },
    [earlier]: { quarantined_at: NOW - 86_400, quarantined_until: NOW + 86_400 },
  });
  await signIn();
  await openView("Quarantine");
  await page.getByText(/^\d+ sandboxes: 1 by the check of accounts, 1 by a replacement, \d+ by an operator\.$/).waitFor();
  const cells = async (id) => (await row(id).locator("td:not(.select)").allInnerTexts());
  const [, who, since, until, reason, from, holder] = await cells(byCheck);
  assert.deepEqual([who, until, reason, from, holder], [
    "the check of accounts", "somebody ends it", `not usable for 30 min: ${HTML}`, "provisioning", "It has never had a holder.",
  ]);
  assert.match(since, /^\d{4}-\d\d-\d\d \d\d:\d\d$/);
  assert.equal((await cells(held))[1], `a replacement for quarantine-${process.pid} (ci)`);
  assert.equal((await cells(byOperator))[1], "env-admin");
  assert.match((await cells(earlier))[3], /^\d{4}-/);
  const ids = await page.locator("table.quarantine tbody th").allInnerTexts();
  assert.equal(ids.indexOf(earlier), ids.length - 1, "the latest first");
  assert.equal((await row(held).locator(".row-buttons").innerText()).replace(/\s+/g, " "), `Delete … ${held}`);
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);

  await page.getByRole("combobox", { name: "Set aside by" }).selectOption("a replacement");
  assert.deepEqual(await page.locator("table.quarantine tbody th").allInnerTexts(), [held]);
  await row(held).getByRole("button", { name: held, exact: true }).click();
  await page.getByRole("dialog", { name: `Sandbox ${held}` }).getByText("no DNS").waitFor();
  await page.keyboard.press("Escape");
  for (const [theme, width] of [["light", 1280], ["dark", 360]]) {
    await page.getByLabel("Theme").selectOption(theme);
    await page.setViewportSize({ width, height: 800 });
    await assertAccessible(page, `quarantine: ${theme}, ${width} px`);
  }
});

test("one sandbox is restored with a reason, and leaves the list", { timeout }, async () => {
  const id = free.pop();
  await signIn();
  await openView("Quarantine");
  await row(id).getByRole("button", { name: `Restore … ${id}` }).click();
  const dialog = page.getByRole("dialog", { name: `Restore sandbox ${id}?` });
  await dialog.getByText("It becomes available again, as it was.").waitFor();
  await dialog.getByLabel("Reason", { exact: true }).fill("checked it");
  await dialog.getByRole("button", { name: "Restore sandbox" }).click();
  await page.locator("#announcer").getByText(`Restore ${id}: done.`).waitFor();
  await row(id).waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.className), "found", "the button that had the focus is gone");
  const { sandbox, events } = await api(`/admin/sandboxes/${id}`);
  assert.equal(sandbox.status, "available");
  assert.equal(events[0].reason, "checked it");
});

test("several are restored with one reason and a result each, and a bad one stops no other", { timeout }, async () => {
  const [bad, ...good] = free;
  await signIn();
  await openView("Quarantine");
  for (const id of [...free, held]) await page.getByRole("checkbox", { name: `Select ${id}` }).check();
  await page.getByText(`${free.length + 1} sandboxes selected`).waitFor();
  await act(bad, "delete", "another operator is faster");
  await page.getByRole("button", { name: `Restore ${free.length} …` }).click();
  const form = page.getByRole("dialog", { name: `Restore ${free.length} sandboxes?` });
  await form.getByText(`1 sandbox of ${free.length + 1} selected will be left out`).waitFor();
  await form.getByLabel("Reason", { exact: true }).fill("after the fault");
  await form.getByRole("button", { name: `Restore ${free.length} sandboxes` }).click();
  const result = page.getByRole("dialog", { name: `Restore: ${free.length} sandboxes` });
  await result.getByText(`Restore: ${good.length} done, 1 refused, 1 left out.`).waitFor();
  await result.getByRole("row", { name: new RegExp(`^${bad}\\b`) }).getByText("SANDBOX_PENDING_DELETION").waitFor();
  await result.getByRole("button", { name: "Close" }).click();
  for (const id of free) await row(id).waitFor({ state: "detached" });
  for (const id of good) assert.equal((await api(`/admin/sandboxes/${id}`)).events[0].reason, "after the fault");
  free = [];
  expectErrors(/status of 409/);
});

test("a viewer sees the list and can change nothing", { timeout }, async () => {
  const { secret } = await createToken(`quarantine-viewer-${Date.now()}`, "viewer");
  await signIn(secret);
  await openView("Quarantine");
  await row(held).waitFor();
  assert.equal(await page.locator("table.quarantine").getByRole("checkbox").count(), 0);
  assert.deepEqual(await row(held).getByRole("button").allInnerTexts(), [held]);
  await page.route("**/admin/sandboxes?*", (route) => route.fulfill({ json: { sandboxes: [], count: 0, cursor: null } }));
  await page.reload();
  await page.getByText("No sandbox is quarantined.").waitFor();
  assert.equal(await page.locator("table.quarantine").isVisible(), false);
});
