// Tests the actions of an operator on sandboxes: one at a time, several at once, with the keyboard, and what the timeline
// says afterwards.
import assert from "node:assert/strict";
import { afterEach, before, beforeEach, test } from "node:test";
import { assertAccessible } from "./accessible.mjs";
import { allSandboxes, allocate, api, createToken, openDashboard, release, send } from "./operator.mjs";

const timeout = 120_000;
const LAB = "actions-101";
// Runs a script if the browser parses it as HTML.
const HTML = "<img src='x' onerror='globalThis.ran=1'>";
const OPERATOR = `operator-${Date.now()}`;
let secret, page, expectErrors, assertNoErrors, signIn, openSandboxes;

before(async () => {
  ({ secret } = await createToken(OPERATOR, "operator"));
});

beforeEach(async () => {
  ({ page, expectErrors, assertNoErrors, signIn, openSandboxes } = await openDashboard());
});

afterEach(async () => {
  await page.close();
  assertNoErrors();
});

let plays = 0;
/** Allocates a sandbox to a play of its own. */
const allocateNext = () => allocate(`play-${process.pid}-${(plays += 1)}`, LAB);

const history = (id) => api(`/admin/sandboxes/${encodeURIComponent(id)}`);
const dialogOf = (id) => page.getByRole("dialog", { name: `Sandbox ${id}`, exact: true });
const tableRow = (id) => page.locator("table.sandboxes tbody tr", { has: page.getByRole("button", { name: id, exact: true }) });
const pillOf = (id) => tableRow(id).locator(".pill").innerText();

/** Opens the table as the operator, and shows only the given sandbox, or those that match a text. */
async function openTable(search) {
  await signIn(secret);
  await openSandboxes();
  await page.getByRole("searchbox", { name: "Search" }).fill(search);
}

async function openDetails(id) {
  await tableRow(id).getByRole("button", { name: id, exact: true }).click();
  await dialogOf(id).getByRole("heading", { name: "Timeline" }).waitFor();
  return dialogOf(id);
}

/** Confirms an action in the details of a sandbox, and returns the text of its form. */
async function act(id, action, fields, button = `${action} sandbox`) {
  await dialogOf(id).getByRole("button", { name: `${action} …` }).click();
  const form = page.getByRole("dialog", { name: `${action} sandbox ${id}?` });
  const text = await form.innerText();
  for (const [label, value] of Object.entries(fields)) await form.getByLabel(label).fill(value);
  await form.getByRole("button", { name: button }).click();
  return text;
}

test("an operator releases the sandbox of a held lab, and the timeline says who did it and why", { timeout }, async () => {
  const { id, caller } = await allocateNext();
  await openTable(id);
  const dialog = await openDetails(id);
  assert.match(page.url(), new RegExp(`#/sandboxes/${id}$`));
  assert.deepEqual(await dialog.getByRole("group", { name: "Actions" }).getByRole("button").allInnerTexts(), ["Release …", "Extend …", "Quarantine …"]);

  await dialog.getByRole("button", { name: "Release …" }).click();
  const form = page.getByRole("dialog", { name: `Release sandbox ${id}?` });
  assert.match(await form.innerText(), new RegExp(`${caller} of lab ${LAB} holds it until .* It loses the sandbox at once\\.[^]*deletes the account from CSP`));
  await form.getByRole("button", { name: "Release sandbox" }).click();
  await form.getByText("Enter the reason.").waitFor();
  assert.equal((await history(id)).sandbox.status, "allocated", "no request is sent without a reason");
  await form.getByLabel("Reason").fill(HTML);
  await form.getByRole("button", { name: "Release sandbox" }).click();

  const result = dialog.getByText("Release: done.");
  await result.waitFor();
  assert.ok(await result.evaluate((element) => element === document.activeElement), "the focus is on the result");
  const event = dialog.getByRole("listitem").filter({ hasText: "Release by an operator" });
  await event.getByText(`by ${OPERATOR} (operator)`).waitFor();
  const text = await event.innerText();
  assert.ok(text.includes(`Reason: ${HTML}`) && text.includes("status: allocated → pending deletion"), text);
  const { sandbox, events } = await history(id);
  const recorded = events.find(({ action }) => action === "sandbox.release");
  assert.ok(text.includes(recorded.request_id), text);
  assert.deepEqual([recorded.actor, recorded.role, recorded.reason], [OPERATOR, "operator", HTML]);
  assert.deepEqual([sandbox.status, sandbox.released_by], ["pending_deletion", OPERATOR]);
  assert.equal(await page.locator("img:not(.brand img)").count(), 0);
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
  // Allocated comes before the release, so after it in the timeline.
  const actions = await dialog.getByRole("list", { name: /^Timeline/ }).locator("strong").allInnerTexts();
  assert.ok(actions.indexOf("Release by an operator") < actions.indexOf("Allocated"), actions.join());

  await page.keyboard.press("Escape");
  assert.equal(await pillOf(id), "pending deletion", "the table is up to date without a reload");
  assert.match(page.url(), /#\/sandboxes\?search=/);
});

test("a refused action shows the code, and the sandbox as it is now", { timeout }, async () => {
  const play = await allocateNext();
  await openTable(play.id);
  const dialog = await openDetails(play.id);
  await release(play);
  await act(play.id, "Release", { Reason: "the student left" });
  await dialog.getByText(/^Release: SANDBOX_PENDING_DELETION: \S/).waitFor();
  await dialog.getByRole("button", { name: "Release …" }).waitFor({ state: "hidden" });
  await dialog.getByRole("listitem").filter({ hasText: "refused: SANDBOX_PENDING_DELETION" }).getByText(OPERATOR).waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await pillOf(play.id), "pending deletion");
  expectErrors(/status of 409/);
});

test("a request that fails keeps the form, with the reason that was entered", { timeout }, async () => {
  const play = await allocateNext();
  await openTable(play.id);
  const dialog = await openDetails(play.id);
  await page.route("**/release", (route) => route.abort());
  await act(play.id, "Release", { Reason: "the student left" });
  const form = page.getByRole("dialog", { name: `Release sandbox ${play.id}?` });
  await form.getByText("The broker cannot be reached.").waitFor();
  assert.equal(await form.getByLabel("Reason").inputValue(), "the student left");
  await page.unroute("**/release");
  await form.getByRole("button", { name: "Release sandbox" }).click();
  await dialog.getByText("Release: done.").waitFor();
  expectErrors(/ERR_FAILED/);
});

test("an allocation is extended, unless it ends later already", { timeout }, async () => {
  const play = await allocateNext();
  await openTable(play.id);
  const dialog = await openDetails(play.id);
  const before = (await history(play.id)).sandbox;
  await act(play.id, "Extend", { Reason: "the class runs late", "Minutes from now": "6000" });
  await dialog.getByText("Extend: done.").waitFor();
  const { expires_at: end } = (await history(play.id)).sandbox;
  assert.ok(end > before.expires_at, `${before.expires_at} ${end}`);
  await dialog.getByRole("listitem").filter({ hasText: "Extension" }).getByText(/^expiry: .* → /).waitFor();

  await act(play.id, "Extend", { Reason: "the class runs late", "Minutes from now": "1" });
  await dialog.getByText(/^Extend: EXTENSION_LIMIT_REACHED: /).waitFor();
  assert.equal((await history(play.id)).sandbox.expires_at, end);
  await dialog.getByRole("button", { name: "Extend …" }).click();
  const form = page.getByRole("dialog", { name: `Extend sandbox ${play.id}?` });
  for (const minutes of ["", "0", "1.5", "43201"]) {
    await form.getByLabel("Minutes from now").fill(minutes);
    await form.getByRole("button", { name: "Extend sandbox" }).click();
    await form.getByText("Enter a whole number from 1 to 43200.").waitFor();
  }
  expectErrors(/status of 409/);
});

test("a sandbox is set aside with its reason and end, found by its status, and restored", { timeout }, async () => {
  const { sandbox_id: id } = (await allSandboxes()).findLast(({ status }) => status === "available");
  await openTable(id);
  const dialog = await openDetails(id);
  assert.deepEqual(await dialog.getByRole("group", { name: "Actions" }).getByRole("button").allInnerTexts(), ["Quarantine …", "Delete …"]);
  await dialog.getByRole("button", { name: "Quarantine …" }).click();
  const form = page.getByRole("dialog", { name: `Quarantine sandbox ${id}?` });
  await form.getByLabel("End of the quarantine").fill("2020-01-01T00:00");
  await form.getByRole("button", { name: "Quarantine sandbox" }).click();
  await form.getByText("Enter a time in the future, or none.").waitFor();
  await page.keyboard.press("Escape");

  const end = new Date(Date.now() + 3 * 3600_000);
  end.setSeconds(0, 0);
  const local = new Date(end.getTime() - end.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  const text = await act(id, "Quarantine", { "End of the quarantine": local, Reason: "DNS does not resolve" });
  assert.match(text, /It has never had a holder\.[^]*stays in CSP as it is, and nobody gets it\. A sandbox that never had a holder can be restored\./);
  await dialog.getByText("Quarantine: done.").waitFor();
  const { sandbox } = await history(id);
  assert.deepEqual(
    [sandbox.status, sandbox.quarantined_by, sandbox.quarantine_reason, sandbox.quarantined_until],
    ["quarantined", OPERATOR, "DNS does not resolve", end.getTime() / 1000],
  );
  await page.keyboard.press("Escape");
  await page.getByRole("searchbox", { name: "Search" }).fill("does not resolve");
  await page.getByRole("combobox", { name: "Status" }).selectOption("quarantined");
  assert.equal(await tableRow(id).getByText("DNS does not resolve").count(), 1);

  await openDetails(id);
  assert.match(await act(id, "Restore", { Reason: "repaired" }), /It becomes available again, as it was\./);
  await dialog.getByText("Restore: done.").waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await tableRow(id).count(), 0, "it no longer matches the filter");
  assert.equal((await history(id)).sandbox.status, "available");
});

test("several sandboxes are released at once, with one result for each", { timeout }, async () => {
  const held = [await allocateNext(), await allocateNext(), await allocateNext(), await allocateNext()];
  await openTable(`play-${process.pid}-`);
  await page.getByRole("combobox", { name: "Status" }).selectOption("allocated");
  const bar = page.getByRole("group", { name: "Selected sandboxes" });
  await bar.getByText("No sandbox selected").waitFor();
  for (const { id } of held) await page.getByRole("checkbox", { name: `Select ${id}`, exact: true }).check();
  const free = (await allSandboxes()).find(({ status }) => status === "available");
  await page.getByRole("combobox", { name: "Status" }).selectOption("");
  await page.getByRole("searchbox", { name: "Search" }).fill(free.sandbox_id);
  await page.getByRole("checkbox", { name: `Select ${free.sandbox_id}`, exact: true }).check();
  await bar.getByText("5 sandboxes selected, 4 of them not on this page").waitFor();

  // The page changes under the operator: one is released by its caller, and the request for another one is lost.
  const [refused, lost] = held;
  await release(refused);
  await page.route(`**/sandboxes/${lost.id}/release`, (route) => route.abort());
  await bar.getByRole("button", { name: "Release 4 …" }).click();
  const form = page.getByRole("dialog", { name: "Release 4 sandboxes?" });
  await form.getByText("1 sandbox of 5 selected will be left out, because of their status.").waitFor();
  for (const { id, caller } of held) await form.getByRole("listitem").filter({ hasText: id }).getByText(`${caller} of lab ${LAB} holds it`).waitFor();
  await form.getByLabel("Reason").fill("end of the class");
  await form.getByRole("button", { name: "Release 4 sandboxes" }).click();

  const results = page.getByRole("dialog", { name: "Release: 4 sandboxes" });
  await results.getByText("Release: 2 done, 1 refused, 1 failed, 1 left out.").waitFor();
  const resultOf = (id) => results.getByRole("row").filter({ hasText: id }).getByRole("cell").last().innerText();
  assert.match(await resultOf(refused.id), /^refused SANDBOX_PENDING_DELETION: \S/);
  assert.match(await resultOf(lost.id), /^failed UNREACHABLE: \S/);
  assert.match(await resultOf(free.sandbox_id), /^left out It is available\.$/);
  for (const { id } of held.slice(2)) {
    assert.equal(await resultOf(id), "done Now pending deletion.");
    const { sandbox, events } = await history(id);
    assert.equal(sandbox.status, "pending_deletion");
    assert.deepEqual(events.filter(({ action }) => action === "sandbox.release").map(({ reason }) => reason), ["end of the class"]);
  }
  assert.equal((await history(lost.id)).sandbox.status, "allocated");
  await results.getByRole("button", { name: "Close" }).click();
  // Only the sandboxes that are not done are still selected.
  await bar.getByText("3 sandboxes selected").waitFor();
  await bar.getByRole("button", { name: "Release 1 …" }).waitFor();
  await bar.getByRole("button", { name: "Clear selection" }).click();
  await bar.getByText("No sandbox selected").waitFor();
  await page.unrouteAll({ behavior: "wait" });
  expectErrors(/status of 409|ERR_FAILED/);
});

test("closing the results leaves out the sandboxes that were not sent", { timeout }, async () => {
  const ids = (await allSandboxes()).filter(({ status }) => status === "available").slice(0, 12).map(({ sandbox_id: id }) => id);
  let begun = 0;
  let answer;
  const answered = new Promise((resolve) => { answer = resolve; });
  await page.route("**/quarantine", async (route) => {
    begun += 1;
    await answered;
    await route.fulfill({ status: 503, json: { error: { code: "STORE_UNAVAILABLE", message: "The database does not answer." } } });
  });
  await openTable("");
  await page.getByRole("combobox", { name: "Status" }).selectOption("available");
  await page.getByRole("columnheader", { name: "Id", exact: true }).getByRole("button").click();
  const all = page.getByRole("checkbox", { name: "Select all on this page" });
  await all.check();
  await all.uncheck();
  const shown = await page.locator("table.sandboxes tbody th").allInnerTexts();
  // A range with the shift key.
  await page.getByRole("checkbox", { name: `Select ${shown[0]}`, exact: true }).click();
  await page.getByRole("checkbox", { name: `Select ${shown[ids.length - 1]}`, exact: true }).click({ modifiers: ["Shift"] });
  await page.getByRole("button", { name: `Quarantine ${ids.length} …` }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Reason").fill("a test");
  await form.getByRole("button", { name: `Quarantine ${ids.length} sandboxes` }).click();
  const results = page.getByRole("dialog", { name: `Quarantine: ${ids.length} sandboxes` });
  await results.getByText("sent …").nth(3).waitFor();
  assert.equal(await results.getByText("waiting").count(), ids.length - 4, "four requests at a time");
  await page.keyboard.press("Escape");
  answer();
  await page.getByRole("status").getByText("Quarantine: 4 failed, 8 not sent.").waitFor();
  assert.equal(begun, 4);
  await page.unrouteAll({ behavior: "wait" });
  expectErrors(/status of 503/);
});

test("an operator works with the keyboard alone", { timeout }, async () => {
  const play = await allocateNext();
  await signIn(secret);
  await openSandboxes();
  /** Presses Tab until the element has the focus. */
  const tabTo = async (locator) => {
    for (let presses = 0; presses < 40; presses += 1) {
      if (await locator.evaluate((element) => element === document.activeElement)) return;
      await page.keyboard.press("Tab");
    }
    assert.fail(`no focus: ${locator}`);
  };
  await tabTo(page.getByRole("searchbox", { name: "Search" }));
  await page.keyboard.type(play.id);
  const box = page.getByRole("checkbox", { name: `Select ${play.id}`, exact: true });
  await box.waitFor();
  await tabTo(box);
  await page.keyboard.press("Space");
  await page.getByText("1 sandbox selected").waitFor();
  await page.keyboard.press("Space");
  const opener = page.getByRole("button", { name: play.id, exact: true });
  await tabTo(opener);
  await page.keyboard.press("Enter");
  await tabTo(dialogOf(play.id).getByRole("button", { name: "Quarantine …" }));
  await page.keyboard.press("Enter");
  const form = page.getByRole("dialog", { name: `Quarantine sandbox ${play.id}?` });
  await tabTo(form.getByLabel("Reason"));
  await page.keyboard.type("licence expired");
  await page.keyboard.press("Enter");
  await dialogOf(play.id).getByText("Quarantine: done.").waitFor();
  await tabTo(dialogOf(play.id).getByRole("button", { name: "Delete …" }));
  await page.keyboard.press("Enter");
  // The focus stays in the dialogs, and comes back to the button that opened each.
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => document.activeElement.textContent === "Delete …");
  await page.keyboard.press("Escape");
  await page.waitForFunction((id) => document.activeElement.textContent === id, play.id);
  const { sandbox } = await history(play.id);
  assert.deepEqual([sandbox.status, sandbox.quarantined_from], ["quarantined", "allocated"]);
});

test("a viewer sees the timeline, but neither check boxes nor actions", { timeout }, async () => {
  const play = await allocateNext();
  const viewer = await createToken(`viewer-${Date.now()}`, "viewer");
  await signIn(viewer.secret);
  await openSandboxes();
  assert.equal(await page.locator("table.sandboxes input").count(), 0);
  assert.equal(await page.getByRole("group", { name: "Selected sandboxes" }).count(), 0);
  await page.getByRole("searchbox", { name: "Search" }).fill(play.id);
  const dialog = await openDetails(play.id);
  await dialog.getByRole("listitem").filter({ hasText: "Allocated" }).waitFor();
  assert.deepEqual(await dialog.getByRole("button").allInnerTexts(), ["Close"]);
  await release(play);
});

test("a sandbox that has left the pool is still known, and one that never was is not", { timeout }, async () => {
  const play = await allocateNext();
  await release(play);
  // A cleanup of the schedule may be in progress.
  do await send("POST", "/admin/cleanup"); while ((await history(play.id)).sandbox);
  await openTable(play.id);
  await page.getByRole("button", { name: `Show what is known of ${play.id}` }).click();
  const dialog = dialogOf(play.id);
  await dialog.getByText("This sandbox is not in the pool.").waitFor();
  const actions = await dialog.getByRole("list", { name: /^Timeline/ }).locator("strong").allInnerTexts();
  assert.equal(actions[0], "Deleted");
  assert.ok(actions.includes("Allocated"), actions.join());
  await dialog.locator("dt", { hasText: /^caller$/ }).waitFor();
  await dialog.getByText(play.caller).first().waitFor();

  // The address leads there, too, also after a reload.
  await page.reload();
  await dialog.getByText("This sandbox is not in the pool.").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("searchbox", { name: "Search" }).fill("never-was-1");
  await page.getByRole("button", { name: "Show what is known of never-was-1" }).click();
  await page.getByText("Nothing is known of this sandbox").waitFor();
  expectErrors(/status of 404/);
});

for (const theme of ["light", "dark"]) {
  test(`the dialogs of an operator are accessible in a narrow window: ${theme}`, { timeout }, async () => {
    const held = [await allocateNext(), await allocateNext()];
    await page.setViewportSize({ width: 400, height: 800 });
    await page.getByLabel("Theme").selectOption(theme);
    await openTable(`play-${process.pid}-`);
    await page.getByRole("combobox", { name: "Status" }).selectOption("allocated");
    for (const { id } of held) await page.getByRole("checkbox", { name: `Select ${id}`, exact: true }).check();
    await assertAccessible(page, "selection");
    await openDetails(held[0].id);
    await act(held[0].id, "Extend", { Reason: "A".repeat(500), "Minutes from now": "6000" });
    await dialogOf(held[0].id).getByRole("listitem").filter({ hasText: "Extension" }).waitFor();
    await assertAccessible(page, "details with a timeline");
    await dialogOf(held[0].id).getByRole("button", { name: "Quarantine …" }).click();
    await page.getByRole("button", { name: "Quarantine sandbox" }).click();
    await assertAccessible(page, "form with a fault");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Release 2 …" }).click();
    await page.getByRole("dialog").getByLabel("Reason").fill("the end");
    await assertAccessible(page, "form for several");
    await page.getByRole("button", { name: "Release 2 sandboxes" }).click();
    await page.getByText("Release: 2 done.").waitFor();
    await assertAccessible(page, "results");
    await page.evaluate(() => localStorage.clear());
  });
}
