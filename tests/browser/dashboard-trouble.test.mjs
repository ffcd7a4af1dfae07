// The dashboard on a broker and a CSP that are processes of their own, with nothing in between: an operator goes through
// a time in which CSP deletes nothing, and reads names that are HTML.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { allSandboxes, allocate, api, giveBack, openDashboard } from "./operator.mjs";

const timeout = 180_000;
const COUNTED_MS = 30_000; // The broker counts every ten seconds, and the page asks as often.
const ACCOUNTS = 40;
const EVERY_DELETION_FAILS = { on: "delete", kind: "status", code: 500 };
/** What the page calls the counts of a run. */
const NAMES = { due: "due", deleted: "deleted", failed: "failed", deferred: "deferred", requeued: "put back in line" };
let page, assertQuiet, signIn, view, sandboxes;

beforeEach(async () => {
  ({ page, assertQuiet, signIn, view, sandboxes } = await openDashboard());
  await signIn();
});

afterEach(async () => {
  await page.close();
  assertQuiet();
});

const simulator = (path, options) => fetch(`${process.env.SIMULATOR_URL}/simulator${path}`, options);
const accounts = async () => (await simulator("/accounts")).json();

/** Puts these faults in force, in place of those that were. */
async function misbehave(...faults) {
  const answer = await simulator("/faults", {
    method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify(faults),
  });
  assert.equal(answer.status, 204);
}

/** Starts a job as people do: `says` is what the question has to say, `word` what it wants typed. */
async function start(name, says, word = null) {
  await view("Jobs");
  await page.locator(".action", { hasText: says }).getByRole("button", { name }).click({ timeout: COUNTED_MS });
  const dialog = page.getByRole("dialog", { name });
  await dialog.getByText(says).waitFor();
  if (word) await dialog.getByLabel(`Type ${word} to confirm`).fill(word);
  await dialog.getByRole("button", { name }).click();
}

/** Waits for the end of the run, compares what the page says of it with its record, and takes it off the page. */
async function ended(job, state, counts = {}) {
  const run = page.locator(".run", { hasText: job });
  await run.locator(".pill", { hasText: `${state} after` }).waitFor();
  const record = (await api("/admin/jobs")).runs.find((one) => one.job === job);
  const text = await run.innerText();
  assert.equal(record.state, state, text);
  assert.deepEqual({ ...record.counts, ...counts }, record.counts);
  for (const [key, count] of Object.entries(counts)) assert.ok(text.includes(`${count} ${NAMES[key]}`), text);
  await run.getByRole("button", { name: `Dismiss ${job}` }).click();
  return text;
}

/** Waits until the tiles have the figures of the API, which are these. */
async function figuresAgree(counts) {
  await view("Overview");
  const stats = await api("/admin/stats");
  assert.deepEqual({ ...stats, ...counts }, stats);
  for (const [name, count] of Object.entries(stats)) {
    await page.locator(`.tile.${name}`, { has: page.locator("dd").getByText(String(count), { exact: true }) }).waitFor({ timeout: COUNTED_MS });
  }
}

test("an operator goes through trouble with CSP", { timeout }, async () => {
  await start("Sync with CSP", "Puts new CSP accounts into the pool");
  await ended("sync", "succeeded");
  const plays = [];
  for (let at = 0; at < 32; at += 1) plays.push(await allocate(`play-${at}`, "trouble-101"));
  await Promise.all(plays.slice(0, 16).map(giveBack));
  await figuresAgree({ total: ACCOUNTS, available: 8, allocated: 16, pending_deletion: 16 });

  // Every second deletion fails, the others take their time: the run can be watched.
  await misbehave({ ...EVERY_DELETION_FAILS, every: 2 }, { on: "delete", kind: "slow", delay_ms: 1500 });
  await start("Clean up", "16 sandboxes in line");
  const partly = await page.waitForFunction(() => {
    const run = document.querySelector(".run");
    const { value } = run?.querySelector("progress") ?? {};
    return value > 0 && value < 1 && { value, text: run.innerText };
  });
  const { value, text } = await partly.jsonValue();
  const [, deleted, failed] = /16 due, (\d+) deleted, (\d+) failed/.exec(text);
  assert.equal(value, (Number(deleted) + Number(failed)) / 16);
  await ended("cleanup", "succeeded", { due: 16, deleted: 8, failed: 8 });
  const alerts = page.getByRole("alert");
  await alerts.getByText("8 sandboxes could not be deleted from CSP").waitFor({ timeout: COUNTED_MS });

  // Every deletion fails, until the breaker keeps the rest back.
  await misbehave(EVERY_DELETION_FAILS);
  await Promise.all(plays.slice(16, 28).map(giveBack));
  await start("Clean up", "12 sandboxes in line");
  assert.match(await ended("cleanup", "succeeded", { due: 12, failed: 5, deferred: 7 }),
    /Stopped early: CSP is unwell; deletions go on after \d\d:\d\d:\d\d/);
  await alerts.getByText("Calls to csp are paused").waitFor();
  await alerts.getByText(/deletions go on after \d\d:\d\d:\d\d$/).waitFor();
  await view("Overview");
  await page.locator(".breakers").getByText("csp open").waitFor();
  await alerts.getByText("13 sandboxes could not be deleted from CSP").waitFor({ timeout: COUNTED_MS });
  await figuresAgree({ total: 32, allocated: 4, pending_deletion: 7, deletion_failed: 13 });
  await assertReasons("CSP is unavailable: HTTP 500", 13);

  await misbehave();
  await view("Overview");
  await page.locator(".breakers").getByText("csp half open").waitFor({ timeout: COUNTED_MS });
  await start("Retry failed deletions", "13 sandboxes whose deletion failed");
  await ended("cleanup", "succeeded", { due: 20, deleted: 20, requeued: 13 });
  await figuresAgree({ total: 12, available: 8, allocated: 4, pending_deletion: 0, deletion_failed: 0 });
  await page.locator(".breakers").getByText("csp closed").waitFor();
  await alerts.getByText("could not be deleted").waitFor({ state: "detached" });
  const left = (await accounts()).map(({ csp_id: id }) => String(id));
  assert.deepEqual(left.sort(), (await allSandboxes()).map((row) => row.sandbox_id).sort(), "they are gone from CSP too");

  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.equal(await page.locator("dl, table, .run, .alerts li, canvas").count(), 0);
  assert.doesNotMatch(await page.locator("body").innerText(), /\d+ (sandbox|s old)|trouble-101/);
});

async function assertReasons(reason, count) {
  await sandboxes();
  await page.getByRole("combobox", { name: "Status" }).selectOption("deletion_failed");
  assert.equal(await page.locator("table.sandboxes tbody tr").filter({ hasText: reason }).count(), count);
}

// Lets a browser that takes it for HTML run something; has no blank, since headers of labs take none.
const HTML = "<img/src='x'/onerror='globalThis.ran=1'>";

/** It is there to be read, and was not taken for HTML. */
async function reads(where, text = HTML) {
  await where.getByText(text).first().waitFor({ timeout: COUNTED_MS });
  assert.equal(await page.locator("img:not(.brand img)").count(), 0);
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
}

test("HTML from labs and CSP is text wherever it shows", { timeout }, async () => {
  const [account, ...others] = await accounts();
  const named = { ...account, csp_id: 1, id: "identity/accounts/1", name: HTML };
  const all = { ...account, csp_id: HTML, id: `identity/accounts/${HTML}`, name: `${HTML} too`, sfdc_account_id: HTML };
  await misbehave({ on: "list", kind: "answer", body: { results: [account, ...others, named, all] } });
  await start("Sync with CSP", "Puts new CSP accounts into the pool");
  await ended("sync", "succeeded");

  const prefix = { "x-sandbox-name-prefix": "<img" };
  const plays = [await allocate(HTML, HTML, prefix), await allocate(`${HTML}2`, HTML, prefix)];
  await view("Overview");
  await reads(page.getByRole("list", { name: "Allocated sandboxes by lab" }));

  await sandboxes();
  await page.getByText("Columns", { exact: true }).click();
  for (const box of await page.locator(".columns input").all()) await box.check();
  await page.getByRole("searchbox", { name: "Search" }).fill(HTML);
  await page.getByRole("combobox", { name: "Lab" }).selectOption({ label: HTML });
  const rows = page.locator("table.sandboxes tbody tr");
  assert.equal(await rows.count(), 2);
  const row = rows.filter({ hasText: "too" });
  // The id, the name, the lab, the caller, the external id, the SFDC id.
  assert.equal(await row.locator("th, td").filter({ hasText: HTML }).count(), 6);
  await row.getByRole("button").click();
  const dialog = page.getByRole("dialog", { name: `Sandbox ${HTML}` });
  await reads(dialog);
  assert.equal(await dialog.locator("dd").filter({ hasText: HTML }).count(), 7, "the key of the caller too");
  await page.keyboard.press("Escape");

  await Promise.all(plays.map(giveBack));
  await start("Clean up", "2 sandboxes in line");
  await ended("cleanup", "succeeded", { due: 2, deleted: 1, failed: 1 });
  await page.getByRole("alert").getByText("1 sandbox could not be deleted from CSP").waitFor({ timeout: COUNTED_MS });
  await view("NIOSXaaS");
  await reads(page.getByRole("region", { name: "NIOSXaaS records" }));
  await sandboxes();
  await reads(page.locator("table.sandboxes"), `the account id "identity/accounts/${HTML}" is not of the form`);

  await misbehave({ on: "list", kind: "answer", body: { results: HTML } });
  await start("Sync with CSP", "Puts new CSP accounts into the pool");
  await reads(page.locator(".run"));
  await ended("sync", "failed");
  await reads(page.getByRole("alert"));
  for (const name of ["Jobs", "Recent runs"]) await reads(page.getByRole("region", { name }));
  await view("Overview");
  await reads(page.getByRole("region", { name: "Jobs" }));

  await misbehave();
  await start("Remove all failed", "1 sandbox now", "1");
  await ended("bulk-delete", "succeeded");
  await start("Sync with CSP", "Puts new CSP accounts into the pool");
  await ended("sync", "succeeded");
});
