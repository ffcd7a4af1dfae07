// The dashboard under the broker's own Content-Security-Policy: an operator signs in, looks around, and starts a job.
// Each view is checked with axe-core too.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { afterEach, beforeEach, test } from "node:test";
import { require } from "./browser.mjs";
import { ADMIN, allSandboxes, api, openDashboard } from "./operator.mjs";

const VIEWS = ["Overview", "Sandboxes", "Jobs", "NIOSXaaS"];
const timeout = 120_000;
let page, expectComplaints, assertQuiet, signIn, view, sandboxes, exported;

beforeEach(async () => {
  ({ page, expectComplaints, assertQuiet, signIn, view, sandboxes, exported } = await openDashboard());
});

afterEach(async () => {
  await page.close();
  assertQuiet();
});

/** Whether the page is behind others; it looks for news when it comes back. */
const hide = (isHidden) => page.evaluate((hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}, isHidden);

test("only an admin's token lets in, and signing out leaves nothing", { timeout }, async () => {
  const fault = page.locator("#sign-in-fault");
  await signIn("not-a-token");
  await page.getByText("The token is not valid.").waitFor();
  await signIn("dev-track-token");
  await page.getByText("This is the token of a track.").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  // The browser itself writes refused requests to the console.
  expectComplaints(/status of 40[13]/);

  await page.route("**/admin/overview", (route) => route.fulfill({ status: 502, body: "<h1>Bad gateway</h1>" }));
  await signIn();
  await page.getByText("Your token was not checked").waitFor();
  assert.equal(await page.getByLabel("Admin token").inputValue(), ADMIN);
  assert.match(await fault.innerText(), /HTTP 502/);
  await page.unroute("**/admin/overview");
  expectComplaints(/status of 502/);

  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  assert.equal(await page.title(), "Overview – Sandbox Broker");
  assert.equal(await page.evaluate(() => Object.values(sessionStorage).join()), ADMIN);

  await page.reload();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
  const left = await page.evaluate(() => [Object.values(sessionStorage), Object.values(localStorage), document.cookie].join());
  assert.ok(!left.includes(ADMIN), left);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.equal(await page.locator("dl, table, .alerts li").count(), 0);
});

test("a token that is no longer good leads back to the sign-in", { timeout }, async () => {
  await signIn();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.route("**/admin/jobs", (route) => route.fulfill({ status: 401, json: { error: { code: "UNAUTHORIZED", message: "no" } } }));
  await page.getByRole("link", { name: "Jobs" }).click();
  await page.getByText("The token is no longer valid. Sign in again.").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  expectComplaints(/status of 401/);
});

test("the figures are those of the API, and say when they are old", { timeout }, async () => {
  await signIn();
  const tile = (name) => page.locator(`.tile.${name} dd`);
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  const stats = await api("/admin/stats");
  for (const [name, count] of Object.entries(stats)) {
    assert.equal(await tile(name).innerText(), count.toLocaleString("en"), name);
  }
  await page.getByText(/^Figures are \d+ s old/).waitFor();
  await page.route("**/admin/overview", (route) => route.fulfill({ status: 503, json: { error: { code: "STORE_UNAVAILABLE", message: "The database does not answer." } } }));
  await page.getByText("They cannot be renewed: The database does not answer.").waitFor();
  assert.match(await page.locator("#freshness").getAttribute("class"), /is-old/);
  assert.equal(await tile("total").innerText(), stats.total.toLocaleString("en"));
  expectComplaints(/status of 503/);
});

test("sandboxes are filtered, searched, sorted, paged and looked at", { timeout }, async () => {
  const all = await allSandboxes();
  await signIn();
  await sandboxes();
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
  assert.ok(await opener.evaluate((element) => element === document.activeElement), "the focus goes back");

  await page.getByRole("searchbox", { name: "Search" }).fill("");
  await page.getByRole("combobox", { name: "Status" }).selectOption("deletion_failed");
  assert.equal(await lines.count(), all.filter(({ status }) => status === "deletion_failed").slice(0, 50).length);
  await page.getByRole("combobox", { name: "Status" }).selectOption("");

  const head = page.getByRole("columnheader", { name: "Name" });
  await head.getByRole("button").click();
  assert.equal(await head.getAttribute("aria-sort"), "ascending");
  const names = all.map(({ name }) => name).sort();
  assert.equal(await lines.first().locator("td").first().innerText(), names[0]);
  await head.getByRole("button").click();
  assert.equal(await head.getAttribute("aria-sort"), "descending");
  assert.equal(await lines.first().locator("td").first().innerText(), names.at(-1));
  await page.getByRole("button", { name: "Next", exact: true }).click();
  assert.equal(await lines.first().locator("td").first().innerText(), names.at(-51));

  const reloaded = page.waitForResponse(/admin\/sandboxes/);
  await page.getByRole("button", { name: "Reload" }).click();
  await reloaded;
  await page.getByText(/^Loaded at/).waitFor();
  assert.equal(await lines.first().locator("td").first().innerText(), names.at(-51), "sort and page stay");
  await page.getByLabel("Rows on a page").selectOption("100");
  assert.equal(await lines.count(), Math.min(100, all.length));
});

test("the details of a sandbox follow it", { timeout }, async () => {
  let now = (row) => [row];
  await page.route("**/admin/sandboxes?*", async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    await route.fulfill({ response, json: { ...json, sandboxes: json.sandboxes.flatMap(now) } });
  });
  await signIn();
  await sandboxes();
  const opener = page.locator("tbody th button").first();
  const id = await opener.innerText();
  const becomes = async (...states) => {
    now = (row) => (row.sandbox_id === id ? states.map((state) => ({ ...row, ...state })) : [row]);
    await hide(true);
    await hide(false);
  };
  await opener.click();
  const dialog = page.getByRole("dialog", { name: `Sandbox ${id}` });
  await becomes({ status: "deletion_failed", deletion_error: "CSP said no" });
  await dialog.getByText("CSP said no").waitFor();
  await dialog.getByText("deletion failed", { exact: true }).waitFor();
  await becomes();
  await dialog.getByText("does not have this sandbox any more").waitFor();
  await dialog.getByText("CSP said no").waitFor();
  await becomes({});
  await dialog.getByText("CSP said no").waitFor({ state: "detached" });
  await page.unrouteAll({ behavior: "wait" });
});

test("nothing is painted before the chosen theme is there", { timeout }, async () => {
  await page.getByLabel("Theme").selectOption("dark");
  let arrived = false;
  await page.route("**/dashboard/shell/theme.js", async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 500));
    arrived = true;
    await route.continue();
  });
  await page.reload();
  assert.ok(arrived);
  await page.waitForFunction(() => performance.getEntriesByName("first-paint").length > 0);
  const [paint, script] = await page.evaluate(() => [
    performance.getEntriesByName("first-paint")[0].startTime,
    performance.getEntriesByName(`${location.origin}/dashboard/shell/theme.js`)[0].responseEnd,
  ]);
  assert.ok(paint >= script, `painted after ${paint} ms, the theme came after ${script} ms`);
  await page.evaluate(() => localStorage.clear());
});

test("the exported file has every row that the filter keeps", { timeout }, async () => {
  const all = await allSandboxes();
  await signIn();
  await sandboxes();
  const rows = await exported();
  assert.deepEqual(rows[0].slice(0, 4), ["sandbox_id", "name", "external_id", "status"]);
  assert.deepEqual(Object.keys(all[0]).sort(), [...rows[0]].sort(), "every field of the API");
  const brief = (values) => values.map((value) => value.join()).sort();
  assert.deepEqual(
    brief(rows.slice(1).map((row) => row.slice(0, 4))),
    brief(all.map((row) => [row.sandbox_id, row.name, row.external_id, row.status])),
  );

  await page.getByRole("searchbox", { name: "Search" }).fill(all[0].sandbox_id);
  await page.getByText(/of .* sandbox(es)? match/).waitFor();
  assert.equal((await exported()).length, 1 + all.filter((row) => JSON.stringify(row).includes(all[0].sandbox_id)).length);
});

test("a sync is asked for, started and seen to its end", { timeout }, async () => {
  await signIn();
  await view("Jobs");
  const start = page.getByRole("button", { name: "Sync with CSP" });
  await start.click();
  const dialog = page.getByRole("dialog", { name: "Sync with CSP?" });
  await dialog.getByLabel(/^Force/).waitFor();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.equal(await page.locator(".run").count(), 0, "nothing starts unless it is confirmed");

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

test("a run that is under way already is followed", { timeout }, async () => {
  const run = { id: "cleanup-01774000000-1f0c7a52", job: "cleanup", state: "running", error: null, started_at: 1_774_000_000, updated_at: 1_774_000_000, finished_at: null, counts: { due: 4, deleted: 1, failed: 0 } };
  await page.route("**/admin/cleanup", (route) => route.fulfill({ status: 409, json: { error: { code: "JOB_RUNNING", message: `A run of cleanup is under way already: ${run.id}. Look at it, or try again later.` } } }));
  await page.route(`**/admin/jobs/${run.id}`, (route) => route.fulfill({ json: run }));
  await signIn();
  await view("Jobs");
  await page.getByRole("button", { name: "Clean up" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Clean up" }).click();
  const progress = page.getByRole("progressbar", { name: "Progress of cleanup" });
  await progress.waitFor();
  await page.waitForFunction(() => document.querySelector("progress").value === 0.25);
  assert.match(await page.locator("#announcer").innerText(), /under way already/);
  Object.assign(run, { state: "failed", error: "CSP is unavailable", finished_at: 1_774_000_060 });
  await page.locator(".run").getByText("CSP is unavailable").waitFor();
  expectComplaints(/status of 409/);
});

test("a run whose broker died can be put aside, and stays there", { timeout }, async () => {
  const run = { id: "sync-01774000000-1f0c7a52", job: "sync", state: "running", error: null, started_at: 1_774_000_000, updated_at: 1_774_000_000, finished_at: null, counts: {} };
  const overview = await api("/admin/overview");
  overview.jobs.find(({ job }) => job === "sync").last_run = run;
  await page.route("**/admin/overview", (route) => route.fulfill({ json: overview }));
  await page.route(`**/admin/jobs/${run.id}`, (route) => route.fulfill({ json: run }));
  await signIn();
  await view("Jobs");
  await page.locator(".run").getByText(/its broker may have died/).waitFor();
  await page.getByRole("button", { name: "Dismiss sync" }).click();
  await page.getByText("No job is running.").waitFor();
  await page.waitForResponse(/admin\/overview/);
  await page.getByText("No job is running.").waitFor();
  assert.equal(await page.locator(".run").count(), 0);
});

test("what ends while a job is being started starts nothing and says nothing", { timeout }, async () => {
  let answer;
  const asked = new Promise((resolve) => (answer = resolve));
  await page.route("**/admin/sync", (route) => answer(route));
  await signIn();
  await view("Jobs");
  await page.getByRole("button", { name: "Sync with CSP" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Sync with CSP" }).click();
  await asked;
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
  await page.waitForTimeout(300);
  assert.equal(await page.locator("#announcer").innerText(), "");
});

test("a question goes with its view", { timeout }, async () => {
  await signIn();
  await view("Sandboxes");
  await view("Jobs");
  await page.getByRole("button", { name: "Clean up" }).click();
  await page.getByRole("dialog").waitFor();
  await page.goBack();
  await page.getByRole("heading", { level: 1, name: "Sandboxes" }).waitFor();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.id), "title");
});

test("a page that cannot start says why", { timeout }, async () => {
  const why = page.getByText("The dashboard has not started");
  assert.equal(await why.count(), 0, "one that started does not");
  await page.route("**/dashboard/shell/console.js", (route) => route.abort());
  await page.reload();
  await why.waitFor();
  await page.unroute("**/dashboard/shell/console.js");
  await page.addInitScript(() => Object.defineProperty(globalThis, "sessionStorage", {
    get() {
      throw new DOMException("The operation is insecure.", "SecurityError");
    },
  }));
  await page.reload();
  await why.waitFor();
  expectComplaints(/ERR_FAILED|insecure/);
});

test("nothing is asked for while nobody looks", { timeout }, async () => {
  await signIn();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.waitForLoadState("networkidle");
  let asked = 0;
  page.on("request", () => (asked += 1));
  await hide(true);
  await page.waitForTimeout(12_000);
  assert.equal(asked, 0);
  const again = page.waitForRequest(/admin\/overview/, { timeout: 1000 });
  await hide(false);
  await again;
});

test("the address leads to a view, and back", { timeout }, async () => {
  await signIn();
  await view("Jobs");
  await view("Sandboxes");
  await page.goBack();
  await page.getByRole("heading", { level: 1, name: "Jobs" }).waitFor();
  assert.equal(await page.title(), "Jobs – Sandbox Broker");
  await page.getByText("Skip to the content").focus();
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  assert.match(page.url(), /#\/jobs$/);
});

for (const theme of ["light", "dark"]) {
  for (const width of [1280, 360]) {
    test(`everybody can use it: ${theme}, ${width} px`, { timeout }, async () => {
      const axe = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
      await page.setViewportSize({ width, height: 800 });
      await page.getByLabel("Theme").selectOption(theme);
      await page.evaluate(axe);
      await accessible("Sign in");
      await signIn();
      await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
      for (const name of VIEWS) {
        await view(name);
        await page.waitForLoadState("networkidle");
        await accessible(name);
      }
      await sandboxes();
      await page.locator("table.sandboxes tbody button").first().click();
      await accessible("details");
      await page.keyboard.press("Escape");
      await view("Jobs");
      await page.getByRole("button", { name: "Sync with CSP" }).click();
      await accessible("confirmation");
    });
  }
}

async function accessible(what) {
  const faults = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return violations.filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html).join(" ")}`);
  });
  assert.deepEqual(faults, [], what);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0, `${what}: the page itself scrolls sideways`);
}
