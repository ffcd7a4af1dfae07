// Tests the jobs check and refill on the dashboard: one that is off, one that is started, and the plan of a refill.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { assertAccessible } from "./accessible.mjs";
import { editAnswers, openDashboard, refresh } from "./operator.mjs";

const timeout = 60_000;
// Runs a script if the browser parses it as HTML.
const HTML = "<img src='x' onerror='globalThis.ran=1'>";
const NOW = Math.floor(Date.now() / 1000);
let page, assertNoErrors, expectErrors, signIn, openView;

beforeEach(async () => {
  ({ page, assertNoErrors, expectErrors, signIn, openView } = await openDashboard());
});

afterEach(async () => {
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.close();
  assertNoErrors();
});

test("a job that is off says how to turn it on, and one that is on is started", { timeout }, async () => {
  let isOn = false;
  await editAnswers(page, "**/admin/overview", (json) => ({
    ...json,
    counts: { ...json.counts, provisioning: 7 },
    jobs: json.jobs.map((job) => (job.job === "check" || job.job === "refill" ? { ...job, interval_seconds: isOn ? 60 : null } : job)),
  }));
  let posts = 0;
  await page.route(/\/admin\/(check|refill)(\?|$)/, (route) => {
    posts += 1;
    return route.fulfill({ status: 409, json: { error: { code: "JOB_OFF", message: "refill is off in the configuration of this broker; set REFILL_MODE to turn it on." } } });
  });
  await signIn();
  await openView("Jobs");
  const action = (name) => page.locator(".action", { has: page.getByRole("heading", { name }) });
  await action("Check accounts").getByText(/^The job check is off .* Set CHECK_MODE to new or all for brokers and jobs to turn it on\.$/).waitFor();
  await action("Check accounts").getByText(/the accounts of 7 sandboxes in provisioning/).waitFor();
  assert.equal(await page.getByRole("region", { name: "Jobs" }).getByRole("row", { name: /^refill/ }).getByText("off", { exact: true }).count(), 1);
  await action("Refill pools").getByRole("button").press("Enter");
  await page.locator("#announcer").getByText(/^The job refill is off .* Set REFILL_MODE to plan or on/).waitFor();
  assert.equal(await page.getByRole("dialog").count() + posts, 0);
  await assertAccessible(page, "jobs that are off");

  isOn = true;
  await refresh(page);
  await action("Refill pools").getByText("off", { exact: true }).waitFor({ state: "hidden" });
  await action("Plan a refill").getByRole("button").click();
  const [request] = await Promise.all([
    page.waitForRequest(/\/admin\/refill\?/),
    page.getByRole("dialog", { name: "Plan a refill?" }).getByRole("button", { name: "Plan a refill" }).click(),
  ]);
  assert.match(request.url(), /\?plan=true$/);
  await page.locator("#announcer").getByText(/set REFILL_MODE to turn it on/).waitFor();
  expectErrors(/status of 409/);
});

test("the plan of a refill is shown pool by pool, and again among the recent runs", { timeout }, async () => {
  const one = { target: 50, goal: 50, available: 41, provisioning: 4, under_way: 2, total: 60, max_total: 120, wanted: 3, creations: 3, look_ups: 0, drops: 0 };
  const run = {
    id: "refill-01774000000-1f0c7a52", job: "refill", state: "succeeded", error: null, started_by: "ada",
    started_at: NOW - 5, updated_at: NOW, finished_at: NOW,
    counts: {
      status: "completed", plan: true, created: 0, adopted: 0, failed: 0, unanswered: 0, dropped: 0, other_pools: 7, duration_ms: 4180,
      pools: [{ ...one, name_prefix: "lab-", goal: 60 }, { ...one, name_prefix: HTML, max_total: null, creations: 0, stopped: true, reason: `HTTP 403: ${HTML}` }],
    },
  };
  await editAnswers(page, "**/admin/overview", (json) => ({ ...json, jobs: json.jobs.map((job) => (job.job === "refill" ? { ...job, interval_seconds: 60 } : job)) }));
  await page.route("**/admin/refill?plan=true", (route) => route.fulfill({ status: 202, json: { run_id: run.id } }));
  await page.route(`**/admin/jobs/${run.id}`, (route) => route.fulfill({ json: run }));
  await page.route("**/admin/jobs", (route) => route.fulfill({ json: { runs: [run] } }));
  await signIn();
  await openView("Jobs");
  await page.getByRole("button", { name: "Plan a refill" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Plan a refill" }).click();
  const card = page.locator(".run", { hasText: "3 accounts would be created" });
  const cells = async (place) => (await place.getByRole("region", { name: "Pools of the refill" }).getByRole("row").allInnerTexts()).map((text) => text.split(/\s*\t\s*/));
  await card.getByText("7 more pools").waitFor();
  const expected = [
    ["Pool", "Target", "Available", "Warming up", "Being created", "In all", "Would create", "Notes"],
    ["lab-", "50, 60 for a schedule ahead", "41", "4", "2", "60 of at most 120", "3", "–"],
    [HTML, "50", "41", "4", "2", "60, without a maximum", "0", `stopped: HTTP 403: ${HTML}`],
  ];
  assert.deepEqual(await cells(card), expected);
  await page.getByRole("region", { name: "Recent runs" }).getByRole("button", { name: "Pools …" }).click();
  const dialog = page.getByRole("dialog", { name: /^Pools of the refill at / });
  assert.deepEqual(await cells(dialog), expected);
  await assertAccessible(page, "the plan of a refill");
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
});
