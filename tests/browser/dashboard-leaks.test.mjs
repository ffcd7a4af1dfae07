// Tests the card of the allocations whose play is likely over: the list, and the release in one go.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { assertAccessible } from "./accessible.mjs";
import { allocate, api, createToken, editAnswers, openDashboard, release, send } from "./operator.mjs";

const timeout = 60_000;
// Runs a script if the browser parses it as HTML.
const HTML = "<img src='x' onerror='globalThis.ran=1'>";
let page, assertNoErrors, signIn;

beforeEach(async () => {
  ({ page, assertNoErrors, signIn } = await openDashboard());
});

afterEach(async () => {
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.close();
  assertNoErrors();
});

const card = () => page.locator("section.card").filter({ has: page.getByRole("heading", { name: "Play likely over" }) });
const row = (id) => card().getByRole("row").filter({ has: page.getByRole("button", { name: id, exact: true }) });

/** Allocates sandboxes of a lab, and returns them with the sandboxes of the admin API. */
async function held(lab, count) {
  const all = [];
  for (let number = 0; number < count; number += 1) {
    const one = await allocate(`leak-${process.pid}-${Date.now()}-${number}`, lab);
    all.push({ ...one, sandbox: (await api(`/admin/sandboxes/${one.id}`)).sandbox });
  }
  return all;
}

/** Replaces the broker's list of leaks by these sandboxes while they are allocated: no play is long enough in a test. */
async function listAsLeaks(all, more = {}) {
  await editAnswers(page, "**/admin/leaks?*", async (json) => {
    const leaks = [];
    for (const { id, caller, sandbox } of all) {
      if ((await api(`/admin/sandboxes/${id}`)).sandbox?.status !== "allocated") continue;
      leaks.push({
        sandbox_id: id, name: sandbox.name, caller, lab: sandbox.track_name, allocated_at: sandbox.allocated_at,
        extended_at: null, expires_at: sandbox.expires_at, held_sec: 9000, usual_sec: 3300, basis: "history", ...more,
      });
    }
    return { ...json, leaks, labs: [{ lab: "leaks-101", durations: 100, usual_sec: 3300, suspected_after_sec: 4950, updated_at: 1 }] };
  });
}

test("the card shows that there is no leak", { timeout }, async () => {
  await signIn();
  await card().getByText("No sandbox has been held for longer than is usual for its lab.").waitFor();
  assert.equal(await card().getByRole("table").count(), 0);
});

test("the card shows how long each sandbox has been held, and the usual durations", { timeout }, async () => {
  const all = await held("leaks-101", 2);
  await listAsLeaks(all, { caller: HTML });
  await signIn();
  await card().getByText("2 sandboxes of 1 lab: held for longer than usual.").waitFor();
  const cells = await row(all[0].id).locator("td:not(.select)").allInnerTexts();
  assert.deepEqual([cells[1], cells[2], cells[5]], ["leaks-101", HTML, "2 h 30 min, usually 55 min"]);
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
  await card().getByText("What is usual, by lab").click();
  const usual = await card().getByRole("table", { name: "Usual durations" }).locator("tbody tr").allInnerTexts();
  assert.deepEqual(usual.map((text) => text.split("\t")), [["leaks-101", "100", "55 min", "after 1 h 23 min"]]);
  for (const [theme, width] of [["light", 1280], ["dark", 360]]) {
    await page.getByLabel("Theme").selectOption(theme);
    await page.setViewportSize({ width, height: 800 });
    await assertAccessible(page, `leaks: ${theme}, ${width} px`);
  }
  await row(all[0].id).getByRole("button", { name: all[0].id, exact: true }).click();
  await page.getByRole("dialog", { name: `Sandbox ${all[0].id}` }).waitFor();
  for (const one of all) await release(one);
});

test("selected leaks are released with one reason and a result each", { timeout }, async () => {
  const all = await held("leaks-101", 3);
  const [other] = await held("leaks-102", 1);
  await listAsLeaks([...all, other]);
  await signIn();
  await card().getByRole("combobox", { name: "Lab" }).selectOption("leaks-101 (3)");
  await card().getByRole("button", { name: "Select all 3" }).click();
  await card().getByText("3 sandboxes selected").waitFor();
  await release(all[0]); // Its play has ended meanwhile.
  const extension = { minutes: 600, reason: "the class runs late" };
  assert.equal((await send("POST", `/admin/sandboxes/${all[1].id}/extend`, { body: extension })).status, 200);
  await card().getByRole("button", { name: "Release 3 …" }).click();
  const form = page.getByRole("dialog", { name: "Release 3 sandboxes?" });
  await form.getByLabel("Reason", { exact: true }).fill("the class is over");
  await form.getByRole("button", { name: "Release 3 sandboxes" }).click();
  const result = page.getByRole("dialog", { name: "Release: 3 sandboxes" });
  await result.getByText("Release: 1 done, 2 refused.").waitFor();
  const line = (id) => result.getByRole("row", { name: new RegExp(`^${id}\\b`) });
  await line(all[0].id).getByText("SANDBOX_PENDING_DELETION").waitFor();
  await line(all[1].id).getByText("ALLOCATION_CHANGED").waitFor();
  await line(all[2].id).getByText("Now pending deletion.").waitFor();
  await result.getByRole("button", { name: "Close" }).click();
  await row(all[2].id).waitFor({ state: "detached" });
  await row(all[0].id).waitFor({ state: "detached" });
  await row(all[1].id).waitFor();
  const { sandbox, events } = await api(`/admin/sandboxes/${all[2].id}`);
  assert.equal(sandbox.status, "pending_deletion");
  assert.deepEqual([events[0].action, events[0].reason], ["sandbox.release", "the class is over"]);
  for (const one of [all[1], other]) await release(one);
});

test("a viewer sees the list and can release nothing", { timeout }, async () => {
  const all = await held("leaks-101", 1);
  await listAsLeaks(all);
  const { secret } = await createToken(`leaks-viewer-${Date.now()}`, "viewer");
  await signIn(secret);
  await row(all[0].id).waitFor();
  assert.equal(await card().getByRole("checkbox").count(), 0);
  assert.equal(await card().getByRole("button", { name: /^(Release|Select all)/ }).count(), 0);
  for (const one of all) await release(one);
});
