// Tests the dashboard in a browser under the broker's Content-Security-Policy, and each view with axe-core.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { assertAccessible } from "./accessible.mjs";
import { ADMIN, allSandboxes, allocate, api, openDashboard, release } from "./operator.mjs";

const VIEWS = ["Overview", "Pools", "Sandboxes", "Quarantine", "Jobs", "Policy", "Pauses", "Audit", "NIOSXaaS", "Tokens"];
const timeout = 120_000;
let page, expectErrors, assertNoErrors, signIn, openView, openSandboxes, exportedRows;

beforeEach(async () => {
  ({ page, expectErrors, assertNoErrors, signIn, openView, openSandboxes, exportedRows } = await openDashboard());
});

afterEach(async () => {
  await page.close();
  assertNoErrors();
});

/** Makes the page believe that its tab was hidden or shown. */
const setHidden = (isHidden) => page.evaluate((hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}, isHidden);

/** A run without a heartbeat since its start, long ago. */
const runningRun = (job, counts) => ({
  id: `${job}-01774000000-1f0c7a52`, job, state: "running", error: null,
  started_at: 1_774_000_000, updated_at: 1_774_000_000, finished_at: null, counts,
});

test("no track token signs in, and signing out clears everything", { timeout }, async () => {
  const error = page.locator(".sign-in .error");
  await signIn("not-a-token");
  await page.getByText("The token is not valid.").waitFor();
  await signIn("dev-track-token");
  await page.getByText("This is a track token.").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  // The browser itself logs requests that were rejected.
  expectErrors(/status of 40[13]/);

  await page.route("**/admin/me", (route) => route.fulfill({ status: 502, body: "<h1>Bad gateway</h1>" }));
  await signIn();
  await page.getByText("Your token was not checked").waitFor();
  assert.equal(await page.getByLabel("Token", { exact: true }).inputValue(), ADMIN);
  assert.match(await error.innerText(), /HTTP 502/);
  await page.unroute("**/admin/me");
  expectErrors(/status of 502/);

  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  assert.equal(await page.title(), "Overview – Sandbox Broker");
  assert.equal(await page.evaluate(() => Object.values(sessionStorage).join()), ADMIN);
  await page.getByText("env-admin (admin)").waitFor();

  await page.reload();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
  const storage = await page.evaluate(() => [Object.values(sessionStorage), Object.values(localStorage), document.cookie].join());
  assert.ok(!storage.includes(ADMIN), storage);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.equal(await page.locator("dl, table, .alerts li").count(), 0);
});

const reject = (route) => route.fulfill({ status: 401, json: { error: { code: "UNAUTHORIZED", message: "no" } } });

test("a token that is no longer valid leads back to the sign-in form, and nothing is lost", { timeout }, async () => {
  await signIn();
  await openSandboxes();
  await page.getByRole("searchbox", { name: "Search" }).fill("nothing has this name");
  await openView("Jobs");
  await page.getByRole("button", { name: "Sync with CSP" }).click();
  await page.getByRole("dialog", { name: "Sync with CSP?" }).getByLabel(/^Force/).check();
  await page.route("**/admin/**", reject);
  const dialog = page.getByRole("dialog", { name: "Sign in" });
  await dialog.getByText("The token is no longer valid: it was revoked or replaced. Sign in again.").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  let requests = 0;
  page.on("request", () => (requests += 1));
  await page.keyboard.press("Escape");
  await page.waitForTimeout(5000); // Longer than the shortest interval of a poll.
  assert.equal(requests, 0, "nothing is sent without a token");

  await page.unroute("**/admin/**", reject);
  await dialog.getByLabel("Token", { exact: true }).fill(ADMIN);
  await dialog.getByRole("button", { name: "Sign in" }).click();
  await dialog.waitFor({ state: "detached" });
  assert.ok(await page.getByLabel(/^Force/).isChecked(), "the dialog is as it was left");
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await openSandboxes();
  assert.equal(await page.getByRole("searchbox", { name: "Search" }).inputValue(), "nothing has this name");
  expectErrors(/status of 401/);
});

test("the sign-in form above the page says that a token expired, and can be left by signing out", { timeout }, async () => {
  await page.route("**/admin/me", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...await response.json(), expires_at: 1_774_000_000 } });
  });
  await signIn();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.route("**/admin/pauses", reject);
  const dialog = page.getByRole("dialog", { name: "Sign in" });
  await dialog.getByText(/^Your token expired at \d{4}-/).waitFor();
  await dialog.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
  assert.equal(await page.locator("dialog, dl, table").count(), 0);
  expectErrors(/status of 401/);
});

test("a reload while the broker does not answer keeps the token", { timeout }, async () => {
  await signIn();
  await openView("Jobs");
  await page.route("**/admin/me", (route) => route.fulfill({ status: 503, json: { error: { code: "STORE_UNAVAILABLE", message: "The database does not answer." } } }));
  await page.reload();
  await page.getByText("The database does not answer.").waitFor();
  await page.unroute("**/admin/me");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor();
  expectErrors(/status of 503/);
});

test("the figures match the API, and a failed refresh is shown", { timeout }, async () => {
  await signIn();
  const tile = (name) => page.locator(`.tile.${name} dd`);
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.getByText(/^Figures are \d+ s old/).waitFor();
  const stats = await api("/admin/stats");
  for (const [name, count] of Object.entries(stats)) {
    // The text of a tile that is hidden, too.
    assert.equal(await tile(name).textContent(), count.toLocaleString("en"), name);
  }
  await page.route("**/admin/overview", (route) => route.fulfill({ status: 503, json: { error: { code: "STORE_UNAVAILABLE", message: "The database does not answer." } } }));
  await page.getByText("Refresh failed: The database does not answer.").waitFor();
  assert.match(await page.locator("#freshness").getAttribute("class"), /is-old/);
  assert.equal(await tile("total").innerText(), stats.total.toLocaleString("en"));
  expectErrors(/status of 503/);
});

test("a tile leads to its sandboxes, and the address keeps the filter", { timeout }, async () => {
  const play = await allocate("play-tile", "tile-101");
  await signIn();
  await page.locator(".tile").getByRole("link", { name: "allocated", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "Sandboxes" }).waitFor();
  const status = page.getByRole("combobox", { name: "Status" });
  assert.equal(await status.inputValue(), "allocated");
  await page.getByRole("button", { name: play.id }).waitFor();
  const statuses = page.locator("table.sandboxes tbody .pill");
  assert.deepEqual(new Set(await statuses.allInnerTexts()), new Set(["allocated"]));

  await page.getByRole("searchbox", { name: "Search" }).fill(play.id);
  await page.getByRole("combobox", { name: "Lab" }).selectOption("tile-101");
  assert.match(page.url(), new RegExp(`#/sandboxes\\?search=${play.id}&status=allocated&lab=tile-101$`));
  await page.reload();
  await page.getByText(/^1 of .* match$/).waitFor();
  assert.equal(await page.getByRole("combobox", { name: "Lab" }).inputValue(), "tile-101");

  // The navigation keeps the filter; a tile replaces it.
  await openView("Overview");
  await openView("Sandboxes");
  await page.getByText(/^1 of .* match$/).waitFor();
  await page.goBack();
  await page.locator(".tile").getByRole("link", { name: "total" }).click();
  await page.getByText(/^\d+ sandboxes$/).waitFor();
  assert.equal(await status.inputValue(), "");
  await release(play);
});

test("the hours held by a lab are those of its current sandboxes", { timeout }, async () => {
  const play = await allocate("play-hours", "hours-101");
  await page.route("**/admin/sandboxes?*", async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    const held = (row) => (row.track_name === "hours-101" ? { ...row, allocated_at: row.allocated_at - 5400 } : row);
    await route.fulfill({ response, json: { ...json, sandboxes: json.sandboxes.map(held) } });
  });
  await signIn();
  const line = page.getByRole("region", { name: "Hours held, by lab" }).getByRole("row", { name: /^hours-101/ });
  await line.waitFor();
  assert.deepEqual(await line.getByRole("cell").allInnerTexts(), ["1", "1.5 h", "1.5 h", "1.5 h"]);
  await line.getByRole("link", { name: "hours-101" }).click();
  await page.getByText(/^1 of .* match$/).waitFor();
  await page.unrouteAll({ behavior: "wait" });
  await release(play);
});

test("a chart of a single sample has distinct times on its axis", { timeout }, async () => {
  await page.addInitScript(() => {
    window.drawn = [];
    const { fillText } = CanvasRenderingContext2D.prototype;
    CanvasRenderingContext2D.prototype.fillText = function draw(text, ...rest) {
      window.drawn.push(text);
      return fillText.call(this, text, ...rest);
    };
  });
  const sample = {
    at: 1_774_000_000, provisioning: 2, available: 3, allocated: 1, pending_deletion: 0, stale: 0, deletion_failed: 0, quarantined: 0,
    allocations: 1, releases: 0,
  };
  await page.route("**/admin/samples?*", (route) => route.fulfill({ json: { every_seconds: 300, samples: [sample] } }));
  await page.reload();
  await signIn();
  await page.getByText("Each point covers 5 min.").waitFor();
  await page.waitForFunction(() => window.drawn.some((text) => /^\d\d:\d\d$/.test(text)));
  const times = (await page.evaluate(() => window.drawn)).filter((text) => /^\d\d:\d\d$/.test(text));
  // Both charts have the same axis, and each time that one is drawn it has every label once.
  const distinct = [...new Set(times)];
  const counts = distinct.map((time) => times.filter((other) => other === time).length);
  assert.ok(distinct.length >= 3 && counts.every((count) => count === counts[0]), times.join(" "));
});

test("sandboxes can be filtered, searched, sorted, paged and opened", { timeout }, async () => {
  const all = await allSandboxes();
  await signIn();
  await openSandboxes();
  const lines = page.locator("table.sandboxes tbody tr");
  const found = page.locator(".found");
  assert.equal(await found.innerText(), `${all.length} sandboxes`);
  assert.equal(await lines.count(), Math.min(50, all.length));

  const wanted = all[Math.floor(all.length / 2)];
  await page.getByRole("searchbox", { name: "Search" }).fill(wanted.name.toUpperCase());
  const matching = all.filter((row) => JSON.stringify(row).toLowerCase().includes(wanted.name.toLowerCase()));
  await page.waitForFunction((count) => document.querySelectorAll("table.sandboxes tbody tr").length === count, matching.length);
  assert.match(await found.innerText(), new RegExp(`^${matching.length} of ${all.length} `));

  const opener = page.getByRole("button", { name: wanted.sandbox_id });
  await opener.click();
  const dialog = page.getByRole("dialog", { name: `Sandbox ${wanted.sandbox_id}` });
  assert.ok((await dialog.innerText()).includes(wanted.external_id));
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.ok(await opener.evaluate((element) => element === document.activeElement), "the focus returns to the button");

  await page.getByRole("searchbox", { name: "Search" }).fill("");
  await page.getByRole("combobox", { name: "Status" }).selectOption("deletion_failed");
  assert.equal(await lines.count(), all.filter(({ status }) => status === "deletion_failed").slice(0, 50).length);
  await page.getByRole("combobox", { name: "Status" }).selectOption("");

  const head = page.getByRole("columnheader", { name: "Name" });
  await head.getByRole("button").click();
  assert.equal(await head.getAttribute("aria-sort"), "ascending");
  const names = all.map(({ name }) => name).sort();
  assert.equal(await lines.first().locator("td:not(.select)").first().innerText(), names[0]);
  await head.getByRole("button").click();
  assert.equal(await head.getAttribute("aria-sort"), "descending");
  assert.equal(await lines.first().locator("td:not(.select)").first().innerText(), names.at(-1));
  await page.getByRole("button", { name: "Next", exact: true }).click();
  assert.equal(await lines.first().locator("td:not(.select)").first().innerText(), names.at(-51));

  const reloaded = page.waitForResponse(/admin\/sandboxes/);
  await page.getByRole("button", { name: "Reload" }).click();
  await reloaded;
  await page.getByText(/^Loaded at/).waitFor();
  assert.equal(await lines.first().locator("td:not(.select)").first().innerText(), names.at(-51), "a reload keeps the order and the page");
  await page.getByLabel("Rows per page").selectOption("100");
  assert.equal(await lines.count(), Math.min(100, all.length));
});

test("the details of a sandbox are updated while they are open", { timeout }, async () => {
  let mapRow = (row) => [row];
  await page.route("**/admin/sandboxes?*", async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    await route.fulfill({ response, json: { ...json, sandboxes: json.sandboxes.flatMap(mapRow) } });
  });
  await page.route("**/admin/sandboxes/*", async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    await route.fulfill({ response, json: { ...json, sandbox: mapRow(json.sandbox)[0] ?? null } });
  });
  await signIn();
  await openSandboxes();
  const opener = page.locator("tbody th button").first();
  const id = await opener.innerText();
  const change = async (...states) => {
    await page.getByText(/^Loaded at/).waitFor(); // A tab that is shown again during a load does not begin another one.
    mapRow = (row) => (row.sandbox_id === id ? states.map((state) => ({ ...row, ...state })) : [row]);
    // The details are read for themselves, too, so they may be ahead of a load of the table. A load in progress is not repeated.
    await page.getByText(/^Loaded at/).waitFor();
    await setHidden(true);
    await setHidden(false);
  };
  await opener.click();
  const dialog = page.getByRole("dialog", { name: `Sandbox ${id}` });
  await change({ status: "deletion_failed", deletion_error: "CSP said no" });
  await dialog.getByText("CSP said no").waitFor();
  await dialog.getByText("deletion failed", { exact: true }).waitFor();
  await change();
  await dialog.getByText("no longer in the pool").waitFor();
  await dialog.getByText("CSP said no").waitFor();
  await change({});
  await dialog.getByText("CSP said no").waitFor({ state: "detached" });
  await page.unrouteAll({ behavior: "wait" });
});

test("columns can be chosen, and the choice is kept", { timeout }, async () => {
  await signIn();
  await openSandboxes();
  await page.getByText("Columns", { exact: true }).click();
  const [row] = await allSandboxes();
  const heads = () => page.locator("table.sandboxes thead th").allInnerTexts();
  for (const name of ["Created in CSP", "Idempotency key", "Lab duration (hours)"]) {
    assert.ok(!(await heads()).includes(name), name);
    await page.getByLabel(name).check();
    assert.ok((await heads()).includes(name), name);
  }
  await page.reload();
  await page.getByText(/^Loaded at/).waitFor();
  await page.getByRole("searchbox", { name: "Search" }).fill(row.external_id);
  const column = (await heads()).indexOf("Lab duration (hours)");
  assert.equal(await page.locator("table.sandboxes tbody tr").first().locator("th, td").nth(column).innerText(), String(row.lab_duration_hours));
  await page.evaluate(() => localStorage.clear());
});

test("nothing is painted before the chosen theme is loaded", { timeout }, async () => {
  await page.getByLabel("Theme").selectOption("dark");
  let isRequested = false;
  await page.route("**/dashboard/shell/theme.js", async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 500));
    isRequested = true;
    await route.continue();
  });
  await page.reload();
  assert.ok(isRequested);
  await page.waitForFunction(() => performance.getEntriesByName("first-paint").length > 0);
  const [paint, script] = await page.evaluate(() => [
    performance.getEntriesByName("first-paint")[0].startTime,
    performance.getEntriesByName(`${location.origin}/dashboard/shell/theme.js`)[0].responseEnd,
  ]);
  assert.ok(paint >= script, `painted after ${paint} ms, the theme was loaded after ${script} ms`);
  await page.evaluate(() => localStorage.clear());
});

test("the exported file has every row that matches the filter", { timeout }, async () => {
  const all = await allSandboxes();
  await signIn();
  await openSandboxes();
  const rows = await exportedRows();
  assert.deepEqual(rows[0].slice(0, 4), ["sandbox_id", "name", "external_id", "status"]);
  assert.deepEqual(Object.keys(all[0]).sort(), [...rows[0]].sort(), "every field of the API");
  const sorted = (values) => values.map((value) => value.join()).sort();
  assert.deepEqual(
    sorted(rows.slice(1).map((row) => row.slice(0, 4))),
    sorted(all.map((row) => [row.sandbox_id, row.name, row.external_id, row.status])),
  );

  await page.getByRole("searchbox", { name: "Search" }).fill(all[0].sandbox_id);
  await page.getByText(/of .* sandbox(es)? match/).waitFor();
  assert.equal((await exportedRows()).length, 1 + all.filter((row) => JSON.stringify(row).includes(all[0].sandbox_id)).length);
});

test("a sync is confirmed, started and followed to its end", { timeout }, async () => {
  await signIn();
  await openView("Jobs");
  const start = page.getByRole("button", { name: "Sync with CSP" });
  await start.click();
  const dialog = page.getByRole("dialog", { name: "Sync with CSP?" });
  await dialog.getByLabel(/^Force/).waitFor();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.equal(await page.locator(".run").count(), 0, "a job starts only after the confirmation");

  await start.click();
  const [request] = await Promise.all([
    page.waitForRequest(/\/admin\/sync$/),
    dialog.getByRole("button", { name: "Sync with CSP" }).click(),
  ]);
  assert.equal(request.headers().prefer, "respond-async");
  const run = page.locator(".run", { hasText: "sync" });
  await run.getByText(/^succeeded/).waitFor();
  assert.match(await run.innerText(), /listed by CSP/);
  const { runs } = await api("/admin/jobs");
  assert.ok(runs.some(({ job, state }) => job === "sync" && state === "succeeded"));
  await run.getByRole("button", { name: "Dismiss sync" }).click();
  await page.getByText("No job is running.").waitFor();
});

test("a run that exists already is followed", { timeout }, async () => {
  const run = runningRun("cleanup", { due: 4, deleted: 1, failed: 0 });
  const error = { code: "JOB_RUNNING", message: "A run of cleanup is in progress.", run_id: run.id };
  await page.route("**/admin/cleanup", (route) => route.fulfill({ status: 409, json: { error } }));
  await page.route(`**/admin/jobs/${run.id}`, (route) => route.fulfill({ json: run }));
  await signIn();
  await openView("Jobs");
  await page.getByRole("button", { name: "Clean up" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Clean up" }).click();
  const progress = page.getByRole("progressbar", { name: "Progress of cleanup" });
  await progress.waitFor();
  await page.waitForFunction(() => document.querySelector("progress").value === 0.25);
  assert.match(await page.locator("#announcer").innerText(), /is in progress/);
  Object.assign(run, { state: "failed", error: "CSP is unavailable", finished_at: 1_774_000_060 });
  await page.locator(".run").getByText("CSP is unavailable").waitFor();
  expectErrors(/status of 409/);
});

test("a run whose broker died can be dismissed, and does not reappear", { timeout }, async () => {
  const run = runningRun("sync", {});
  const overview = await api("/admin/overview");
  overview.jobs.find(({ job }) => job === "sync").last_run = run;
  await page.route("**/admin/overview", (route) => route.fulfill({ json: overview }));
  await page.route(`**/admin/jobs/${run.id}`, (route) => route.fulfill({ json: run }));
  await signIn();
  await openView("Jobs");
  await page.locator(".run").getByText(/its broker may have died/).waitFor();
  await page.getByRole("button", { name: "Dismiss sync" }).click();
  await page.getByText("No job is running.").waitFor();
  await page.waitForResponse(/admin\/overview/);
  await page.getByText("No job is running.").waitFor();
  assert.equal(await page.locator(".run").count(), 0);
});

test("signing out while a job is being started shows no message", { timeout }, async () => {
  let onRequest;
  const requested = new Promise((resolve) => (onRequest = resolve));
  await page.route("**/admin/sync", (route) => onRequest(route));
  await signIn();
  await openView("Jobs");
  await page.getByRole("button", { name: "Sync with CSP" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Sync with CSP" }).click();
  await requested;
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
  await page.waitForTimeout(300);
  assert.equal(await page.locator("#announcer").innerText(), "");
});

test("a confirmation closes when its view is left", { timeout }, async () => {
  await signIn();
  await openView("Sandboxes");
  await openView("Jobs");
  await page.getByRole("button", { name: "Clean up" }).click();
  await page.getByRole("dialog").waitFor();
  await page.goBack();
  await page.getByRole("heading", { level: 1, name: "Sandboxes" }).waitFor();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.id), "title");
});

test("a page that cannot start shows the reason", { timeout }, async () => {
  const reason = page.getByText("The dashboard has not started");
  assert.equal(await reason.count(), 0, "a page that started shows no reason");
  await page.route("**/dashboard/shell/console.js", (route) => route.abort());
  await page.reload();
  await reason.waitFor();
  await page.unroute("**/dashboard/shell/console.js");
  await page.addInitScript(() => Object.defineProperty(globalThis, "sessionStorage", {
    get() {
      throw new DOMException("The operation is insecure.", "SecurityError");
    },
  }));
  await page.reload();
  await reason.waitFor();
  expectErrors(/ERR_FAILED|insecure/);
});

test("no request is sent while the tab is hidden", { timeout }, async () => {
  await signIn();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.waitForLoadState("networkidle");
  let requests = 0;
  page.on("request", () => (requests += 1));
  await setHidden(true);
  await page.waitForTimeout(12_000);
  assert.equal(requests, 0);
  const nextRequest = page.waitForRequest(/admin\/overview/, { timeout: 1000 });
  await setHidden(false);
  await nextRequest;
});

test("the address selects the view, and the back button works", { timeout }, async () => {
  await signIn();
  await openView("Jobs");
  await openView("Sandboxes");
  await page.goBack();
  await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor();
  assert.equal(await page.title(), "Jobs – Sandbox Broker");
  await page.getByText("Skip to the content").focus();
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  assert.match(page.url(), /#\/jobs$/);
});

/** Text that no browser breaks by itself. */
const LONG = "x".repeat(500);

/** Answers with pauses, records, tokens and versions of the policy whose texts are as long as they can be. */
async function routeLongTexts() {
  const pause = { activity: "deletions", reason: LONG, author: LONG.slice(0, 64), since: 1_774_000_000, until: null };
  const record = {
    at: 1_774_000_000, at_ms: 1_774_000_000_000, action: "sandbox.release", actor: "ada", role: "operator", target: "sandbox/7",
    outcome: "SANDBOX_AVAILABLE", reason: LONG, before: { status: "allocated" }, after: { status: "available" }, request_id: "r-1", address: "192.0.2.1",
  };
  const token = {
    token_id: "0123456789abcdef", name: LONG.slice(0, 64), role: "track", labs: [LONG.slice(0, 256)], name_prefixes: ["x-"], created_by: "ada",
    created_at: 1_774_000_000, expires_at: null, revoked_at: null, revoked_by: null, last_used_at: 1_774_000_000,
  };
  const revoked = { ...token, token_id: "0123456789abcdee", revoked_at: 1_774_000_000, revoked_by: "ada" };
  const versions = [2, 1].map((version) => ({ version, author: LONG.slice(0, 64), at: 1_774_000_000, reason: LONG }));
  const fault = { path: `lab[0].${LONG.slice(0, 60)}`, got: LONG, takes: LONG };
  await page.route("**/admin/policy/history*", (route) => route.fulfill({ json: { versions, count: 2, cursor: "next" } }));
  await page.route("**/admin/policy?version=2", (route) => route.fulfill({ contentType: "application/toml", body: `[[lab]]\nid = "${LONG}"\n` }));
  await page.route("**/admin/policy/check", (route) => route.fulfill({ status: 400, json: { error: { code: "INVALID_POLICY", message: "no", faults: [fault] } } }));
  await page.route("**/admin/pauses", (route) => route.fulfill({ json: { pauses: [pause] } }));
  await page.route("**/admin/audit*", (route) => route.fulfill({ json: { records: [record, { ...record, outcome: "done" }], count: 2, cursor: "next" } }));
  await page.route("**/admin/tokens", (route) => (route.request().method() === "POST"
    ? route.fulfill({ status: 201, json: { token, secret: `sbt_0123456789abcdef_${"y".repeat(49)}` } })
    : route.fulfill({ json: { tokens: [token, revoked] } })));
}

for (const theme of ["light", "dark"]) {
  for (const width of [1280, 360]) {
    test(`every view is accessible: ${theme}, ${width} px`, { timeout }, async () => {
      await page.setViewportSize({ width, height: 800 });
      await page.getByLabel("Theme").selectOption(theme);
      await assertAccessible(page, "Sign in");
      await routeLongTexts();
      await signIn();
      await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
      for (const name of VIEWS) {
        await openView(name);
        await page.waitForLoadState("networkidle");
        await assertAccessible(page, name);
      }
      await openSandboxes();
      await page.locator("table.sandboxes tbody button").first().click();
      await assertAccessible(page, "details");
      await page.keyboard.press("Escape");
      await openView("Jobs");
      await page.getByRole("button", { name: "Sync with CSP" }).click();
      await assertAccessible(page, "confirmation");
      await page.keyboard.press("Escape");
      await openView("Policy");
      await page.getByRole("button", { name: "Check" }).click();
      await page.getByRole("button", { name: "Line 1" }).waitFor();
      await assertAccessible(page, "faults of a policy");
      await openView("Pauses");
      await page.getByRole("button", { name: "Pause syncs …" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Pause" }).click();
      await assertAccessible(page, "form with a fault");
      await page.keyboard.press("Escape");
      await openView("Tokens");
      await page.getByRole("button", { name: "Create a token …" }).click();
      await assertAccessible(page, "new token");
      await page.getByLabel("Name", { exact: true }).fill("ada");
      await page.getByRole("dialog").getByRole("button", { name: "Create" }).click();
      await page.getByRole("dialog", { name: /^Secret of/ }).getByRole("button", { name: "Close" }).click();
      await assertAccessible(page, "secret that is not copied");
      await page.route("**/admin/pauses", reject);
      await page.getByRole("dialog", { name: "Sign in" }).waitFor();
      await assertAccessible(page, "sign-in form above the page");
      expectErrors(/status of 40[01]/);
    });
  }
}
