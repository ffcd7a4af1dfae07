// Tests the dashboards of two brokers on the same tables: what an operator does at one is soon seen at the other.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { base } from "./browser.mjs";
import { openDashboard } from "./operator.mjs";

const MAX_DELAY_MS = 10_000;
const timeout = 120_000;
let one, other;

beforeEach(async () => {
  [one, other] = [await openDashboard(base), await openDashboard(process.env.OTHER_BROKER_URL)];
  for (const { page, signIn } of [one, other]) {
    await signIn();
    await page.getByText("env-admin (admin)").waitFor();
  }
});

afterEach(async () => {
  for (const { page } of [one, other]) await page.close();
  for (const { assertNoErrors } of [one, other]) assertNoErrors();
});

test("a pause is shown on another broker's page within ten seconds, and so is its end", { timeout }, async () => {
  await other.openView("Jobs");
  const banner = other.page.locator("#pauses").getByText("Deletions paused");
  await one.openView("Pauses");
  await one.page.getByRole("button", { name: "Pause deletions …" }).click();
  const dialog = one.page.getByRole("dialog", { name: "Pause deletions" });
  await dialog.getByLabel("Reason").fill("CSP is being repaired");
  await dialog.getByRole("button", { name: "Pause" }).click();
  const paused = await msUntil(banner.waitFor());
  assert.match(await other.page.locator("#pauses").innerText(), /by env-admin, until somebody ends it: CSP is being repaired/);
  assert.match(await other.page.locator("h1").innerText(), /Jobs/, "the page of another view");

  await one.page.getByRole("button", { name: "End the pause of deletions …" }).click();
  await one.page.getByRole("dialog").getByRole("button", { name: "End the pause" }).click();
  const ended = await msUntil(banner.waitFor({ state: "detached" }));
  await other.page.locator("#announcer").getByText("Deletions: no longer paused.").waitFor();
  console.log(`bench: pause seen on another broker's page after ${paused} ms, its end after ${ended} ms`);
  assert.ok(paused < MAX_DELAY_MS && ended < MAX_DELAY_MS);
});

async function msUntil(promise) {
  const began = performance.now();
  await promise;
  return Math.round(performance.now() - began);
}
