// Tests the dashboard with a broker and a simulated CSP as separate processes: an outage of CSP, and HTML in names.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { allSandboxes, allocate, api, openDashboard, release } from "./operator.mjs";

const timeout = 180_000;
const COUNT_TIMEOUT_MS = 30_000; // The broker counts the pool every ten seconds, and the page polls as often.
const ACCOUNTS = 40;
const EVERY_DELETION_FAILS = { on: "delete", kind: "status", code: 500 };
/** The names of a run's counts on the page. */
const COUNT_NAMES = { due: "due", deleted: "deleted", failed: "failed", deferred: "deferred", requeued: "requeued" };
let page, assertNoErrors, signIn, openView, openSandboxes;

beforeEach(async () => {
  ({ page, assertNoErrors, signIn, openView, openSandboxes } = await openDashboard());
  await signIn();
});

afterEach(async () => {
  await page.close();
  assertNoErrors();
});

const simulator = (path, options) => fetch(`${process.env.SIMULATOR_URL}/simulator${path}`, options);
const accounts = async () => (await simulator("/accounts")).json();

/** Makes the simulator inject these faults, in place of any others. */
async function injectFaults(...faults) {
  const answer = await simulator("/faults", {
    method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify(faults),
  });
  assert.equal(answer.status, 204);
}

/** Starts a job as an operator does: checks its description, and types the text that the confirmation requires. */
async function startJob(name, description, requiredText = null) {
  await openView("Jobs");
  await page.locator(".action", { hasText: description }).getByRole("button", { name }).click({ timeout: COUNT_TIMEOUT_MS });
  const dialog = page.getByRole("dialog", { name });
  await dialog.getByText(description).waitFor();
  if (requiredText) await dialog.getByLabel(`Type ${requiredText} to confirm`).fill(requiredText);
  await dialog.getByRole("button", { name }).click();
}

/** Waits for the end of a run, compares its text on the page with its record, and dismisses it. */
async function assertEnded(job, state, counts = {}) {
  const run = page.locator(".run", { hasText: job });
  await run.locator(".pill", { hasText: `${state} after` }).waitFor();
  const record = (await api("/admin/jobs")).runs.find((one) => one.job === job);
  const text = await run.innerText();
  assert.equal(record.state, state, text);
  assert.deepEqual({ ...record.counts, ...counts }, record.counts);
  for (const [key, count] of Object.entries(counts)) assert.ok(text.includes(`${count} ${COUNT_NAMES[key]}`), text);
  await run.getByRole("button", { name: `Dismiss ${job}` }).click();
  return text;
}

/** Checks that the API reports these counts, and waits until the tiles show them. The tile of unreadable items is hidden. */
async function assertCounts(counts) {
  await openView("Overview");
  const { unreadable, ...stats } = await api("/admin/stats");
  assert.equal(unreadable, 0);
  assert.deepEqual({ ...stats, ...counts }, stats);
  for (const [name, count] of Object.entries(stats)) {
    await page.locator(`.tile.${name}`, { has: page.locator("dd").getByText(String(count), { exact: true }) }).waitFor({ timeout: COUNT_TIMEOUT_MS });
  }
}

test("an operator follows an outage of CSP and retries the failed deletions", { timeout }, async () => {
  await startJob("Sync with CSP", "Adds new CSP accounts to the pool");
  await assertEnded("sync", "succeeded");
  const plays = [];
  for (let index = 0; index < 32; index += 1) plays.push(await allocate(`play-${index}`, "outage-101"));
  await Promise.all(plays.slice(0, 16).map(release));
  await assertCounts({ total: ACCOUNTS, available: 8, allocated: 16, pending_deletion: 16 });

  // Every second deletion fails and the others are slow, so that the progress of the run is visible.
  await injectFaults({ ...EVERY_DELETION_FAILS, every: 2 }, { on: "delete", kind: "slow", delay_ms: 1500 });
  await startJob("Clean up", "16 sandboxes pending deletion");
  const partial = await page.waitForFunction(() => {
    const run = document.querySelector(".run");
    const { value } = run?.querySelector("progress") ?? {};
    return value > 0 && value < 1 && { value, text: run.innerText };
  });
  const { value, text } = await partial.jsonValue();
  const [, deleted, failed] = /16 due, (\d+) deleted, (\d+) failed/.exec(text);
  assert.equal(value, (Number(deleted) + Number(failed)) / 16);
  await assertEnded("cleanup", "succeeded", { due: 16, deleted: 8, failed: 8 });
  const alerts = page.getByRole("alert");
  await alerts.getByText("8 sandboxes could not be deleted from CSP").waitFor({ timeout: COUNT_TIMEOUT_MS });

  // Every deletion fails, until the circuit breaker opens and the rest are deferred.
  await injectFaults(EVERY_DELETION_FAILS);
  await Promise.all(plays.slice(16, 28).map(release));
  await startJob("Clean up", "12 sandboxes pending deletion");
  assert.match(await assertEnded("cleanup", "succeeded", { due: 12, failed: 5, deferred: 7 }),
    /Stopped early: CSP is unavailable; deletions resume after \d\d:\d\d:\d\d/);
  await alerts.getByText("Calls to csp are paused").waitFor();
  await alerts.getByText(/deletions resume after \d\d:\d\d:\d\d$/).waitFor();
  await openView("Overview");
  await page.locator(".breakers").getByText("csp open").waitFor();
  await alerts.getByText("13 sandboxes could not be deleted from CSP").waitFor({ timeout: COUNT_TIMEOUT_MS });
  await assertCounts({ total: 32, allocated: 4, pending_deletion: 7, deletion_failed: 13 });
  await assertFailureReasons("CSP is unavailable: HTTP 500", 13);

  await injectFaults();
  await openView("Overview");
  await page.locator(".breakers").getByText("csp half open").waitFor({ timeout: COUNT_TIMEOUT_MS });
  await startJob("Retry failed deletions", "13 sandboxes whose deletion failed");
  await assertEnded("cleanup", "succeeded", { due: 20, deleted: 20, requeued: 13 });
  await assertCounts({ total: 12, available: 8, allocated: 4, pending_deletion: 0, deletion_failed: 0 });
  await page.locator(".breakers").getByText("csp closed").waitFor();
  await alerts.getByText("could not be deleted").waitFor({ state: "detached" });
  const remaining = (await accounts()).map(({ csp_id: id }) => String(id));
  assert.deepEqual(remaining.sort(), (await allSandboxes()).map((row) => row.sandbox_id).sort(), "the sandboxes are deleted from CSP too");

  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.equal(await page.locator("dl, table, .run, .alerts li, canvas").count(), 0);
  assert.doesNotMatch(await page.locator("body").innerText(), /\d+ (sandbox|s old)|outage-101/);
});

/** Checks how many failed sandboxes show this reason in the table. */
async function assertFailureReasons(reason, count) {
  await openSandboxes();
  await page.getByRole("combobox", { name: "Status" }).selectOption("deletion_failed");
  assert.equal(await page.locator("table.sandboxes tbody tr").filter({ hasText: reason }).count(), count);
}

// Runs a script if the browser parses it as HTML.
const HTML = "<img src='x' onerror='globalThis.ran=1'>";

/** Checks that the text is shown, and that the browser has not parsed it as HTML. */
async function assertShownAsText(region, text = HTML) {
  await region.getByText(text).first().waitFor({ timeout: COUNT_TIMEOUT_MS });
  assert.equal(await page.locator("img:not(.brand img)").count(), 0);
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
}

test("HTML from labs and CSP is shown as text everywhere", { timeout }, async () => {
  const [account, ...others] = await accounts();
  const named = { ...account, csp_id: 1, id: "identity/accounts/1", name: HTML };
  const all = { ...account, csp_id: HTML, id: "identity/accounts/2", name: `${HTML} too`, sfdc_account_id: HTML };
  await injectFaults({ on: "list", kind: "answer", body: { results: [account, ...others, named, all] } });
  await startJob("Sync with CSP", "Adds new CSP accounts to the pool");
  await assertEnded("sync", "succeeded");

  const prefix = { "x-sandbox-name-prefix": "<img" };
  const plays = [await allocate(HTML, HTML, prefix), await allocate(`${HTML}2`, HTML, prefix)];
  await openView("Overview");
  await assertShownAsText(page.getByRole("list", { name: "Allocated sandboxes by lab" }));

  await openSandboxes();
  await page.getByText("Columns", { exact: true }).click();
  for (const box of await page.locator(".columns input").all()) await box.check();
  await page.getByRole("searchbox", { name: "Search" }).fill(HTML);
  await page.getByRole("combobox", { name: "Lab" }).selectOption({ label: HTML });
  const rows = page.locator("table.sandboxes tbody tr");
  assert.equal(await rows.count(), 2);
  const row = rows.filter({ hasText: "too" });
  // In the id, name, lab, caller, idempotency key and SFDC id.
  assert.equal(await row.locator("th, td").filter({ hasText: HTML }).count(), 6);
  await row.getByRole("button").click();
  const dialog = page.getByRole("dialog", { name: `Sandbox ${HTML}` });
  await assertShownAsText(dialog);
  assert.equal(await dialog.locator("dd").filter({ hasText: HTML }).count(), 6);
  await page.keyboard.press("Escape");

  await Promise.all(plays.map(release));
  await injectFaults({ ...EVERY_DELETION_FAILS, every: 2 });
  await startJob("Clean up", "2 sandboxes pending deletion");
  await assertEnded("cleanup", "succeeded", { due: 2, deleted: 1, failed: 1 });
  await page.getByRole("alert").getByText("1 sandbox could not be deleted from CSP").waitFor({ timeout: COUNT_TIMEOUT_MS });
  await openView("NIOSXaaS");
  await assertShownAsText(page.getByRole("region", { name: "NIOSXaaS records" }));
  await openSandboxes();
  await assertShownAsText(page.locator("table.sandboxes"));

  // The error has no text of the answer, which may have secrets.
  const fault = "the answer is not JSON of the expected form";
  await injectFaults({ on: "list", kind: "answer", body: { results: HTML } });
  await startJob("Sync with CSP", "Adds new CSP accounts to the pool");
  await assertShownAsText(page.locator(".run"), fault);
  await assertEnded("sync", "failed");
  await assertShownAsText(page.getByRole("alert"), fault);
  for (const name of ["Jobs", "Recent runs"]) await assertShownAsText(page.getByRole("region", { name }), fault);
  await openView("Overview");
  await assertShownAsText(page.getByRole("region", { name: "Jobs" }), fault);

  await injectFaults();
  await startJob("Remove all failed", "1 sandbox now", "1");
  await assertEnded("bulk-delete", "succeeded");
  await startJob("Sync with CSP", "Adds new CSP accounts to the pool");
  await assertEnded("sync", "succeeded");
});
