// Tests the dashboard while refill and check work, with a simulated CSP as a process of its own: a pool that is filled, an
// account that is broken, a creation that CSP refuses, and the way out of both.
import assert from "node:assert/strict";
import { after, afterEach, beforeEach, test } from "node:test";
import { assertAccessible } from "./accessible.mjs";
import { applyPolicy, openDashboard } from "./operator.mjs";

const timeout = 120_000;
const PREFIX = "class-";
/** The broker counts the pool every ten seconds, and the page polls as often. */
const COUNT_TIMEOUT_MS = 45_000;
// Runs a script if the browser parses it as HTML.
const HTML = "<img src='x' onerror='globalThis.ran=1'>";
let page, assertNoErrors, signIn, openView;

beforeEach(async () => {
  ({ page, assertNoErrors, signIn, openView } = await openDashboard());
  await signIn();
});

afterEach(async () => {
  await page.close();
  assertNoErrors();
});

after(async () => {
  await injectFaults();
  await applyPolicy("\n");
});

/** Makes the simulator inject these faults, in place of any others. */
async function injectFaults(...faults) {
  const answer = await fetch(`${process.env.SIMULATOR_URL}/simulator/faults`, {
    method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify(faults),
  });
  assert.equal(answer.status, 204);
}

const applyTarget = (target) => applyPolicy(`[[pool]]
name_prefix = "${PREFIX}"
target_available = ${target}
max_total = 9

[pool.create]
description = "A class"
`);

const card = () => page.getByRole("article", { name: PREFIX });
const stateIs = (name) => card().locator(".pill", { hasText: new RegExp(`^${name}$`) }).waitFor({ timeout: COUNT_TIMEOUT_MS });
const figureIs = (name, count) => card().locator(`.figures .${name} dd`, { hasText: new RegExp(`^${count}$`) }).waitFor({ timeout: COUNT_TIMEOUT_MS });

/** Starts a refill as an operator does, and waits for the result of its run. */
async function refill(result, name = "Refill pools") {
  await openView("Jobs");
  await page.getByRole("button", { name }).click();
  await page.getByRole("dialog").getByRole("button", { name }).click();
  const run = page.locator(".run", { hasText: "refill" }).filter({ hasText: result });
  await run.waitFor();
  await run.getByText(/^succeeded/).waitFor();
  return run;
}

test("a pool is filled, and an account that is broken is set aside by the check and replaced", { timeout }, async () => {
  await injectFaults({ on: "groups", names: [`${PREFIX}r000002`], kind: "status", code: 403 });
  await applyTarget(3);
  await refill("3 created");
  await openView("Pools");
  await figureIs("quarantined", 1);
  await figureIs("available", 2);

  await openView("Quarantine");
  const row = page.locator("table.quarantine tbody tr", { hasText: `${PREFIX}r000002` });
  await row.getByText("the check of accounts").waitFor();
  await row.getByText(/^2 checks in a row found the account broken, .*\(HTTP 403\)$/).waitFor();

  await refill("1 created");
  await openView("Pools");
  await stateIs("full");
  assert.equal(await card().getByRole("meter").getAttribute("aria-valuetext"), "4 of at most 9");
  await card().getByRole("link", { name: "Available" }).click();
  await page.getByText(/^3 of .* match$/).waitFor();
  const names = await page.locator("table.sandboxes:not(.quarantine) tbody td:nth-of-type(2)").allInnerTexts();
  assert.deepEqual(names.sort(), ["1", "3", "4"].map((number) => `${PREFIX}r00000${number}`));
  await page.locator("table.sandboxes tbody th button").first().click();
  await page.getByRole("dialog", { name: /^Sandbox / }).getByText("Found usable by a check").waitFor();
  await page.keyboard.press("Escape");

  await openView("Pools");
  await page.getByRole("button", { name: "Show", exact: true }).click();
  const forecast = page.getByRole("region", { name: "Forecast" }).getByRole("row", { name: PREFIX });
  await forecast.waitFor();
  assert.deepEqual((await forecast.getByRole("cell").allInnerTexts()).slice(0, 4), ["3", "3", "yes", "3"]);
  await page.getByRole("list", { name: "This assumes" }).getByText("REFILL_MODE is on").waitFor();
  await assertAccessible(page, "pools with a forecast");
});

test("a pool that CSP refuses says why, and is filled by the refill that an operator starts after the repair", { timeout }, async () => {
  await injectFaults({ on: "create", names: [`${PREFIX}*`], kind: "refuse", code: 403, message: `the quota ${HTML}` });
  await applyTarget(4);
  await refill("1 failed");
  await openView("Pools");
  await stateIs("stopped");
  await card().getByText(/^Refill of this pool is stopped since .* the quota <img/).waitFor();
  const alert = page.getByRole("alert").getByRole("listitem").filter({ hasText: PREFIX });
  await alert.getByRole("link", { name: "Pools" }).waitFor();
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);

  await injectFaults();
  await refill("1 created");
  await openView("Pools");
  await stateIs("full");
  await figureIs("available", 4);
  assert.equal(await alert.count(), 0);

  const plan = await refill("0 accounts would be created", "Plan a refill");
  await plan.getByRole("row", { name: new RegExp(`^${PREFIX}`) }).waitFor();
});
