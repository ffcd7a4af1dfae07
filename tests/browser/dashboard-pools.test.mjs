// Tests the pools of the policy on the dashboard: cards, many pools, warnings that lead to them, and the forecast.
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

const pool = (prefix, more = {}) => ({
  name_prefix: prefix, target: 50, target_available: 50, schedule: null, available: 50, provisioning: 0, under_way: 0, allocated: 20,
  quarantined: 0, total: 70, max_total: 120, state: "full", reason: null, since: null, time_to_available_sec: null, mode: "on", ...more,
});

const STOPPED = pool(`lab-${HTML}`, {
  available: 12, provisioning: 3, under_way: 2, allocated: 60, quarantined: 4, total: 84, state: "stopped",
  reason: `HTTP 403: ${HTML}`, since: NOW - 1380, time_to_available_sec: 360,
});

const editOverview = (change) => editAnswers(page, "**/admin/overview", change);
const showPools = (...pools) => editOverview((json) => ({ ...json, pools }));
const card = (name) => page.getByRole("article", { name });
const names = () => page.locator(".pool h3 a").allInnerTexts();

async function assertNothingRan() {
  assert.equal(await page.evaluate(() => globalThis.ran), undefined);
}

test("a card has the figures of its pool, its state in words, and leads to its sandboxes", { timeout }, async () => {
  const scheduled = pool("exam-", {
    target: 60, available: 41, state: "filling", since: NOW - 60, total: 61, schedule: { from: NOW - 600, to: NOW + 3600, target_available: 60 },
  });
  await showPools(pool("z-"), scheduled, STOPPED, pool("watched-", { state: "watched", max_total: null, target: 0, target_available: 0 }));
  await signIn();
  await page.getByText("4 pools: 1 stopped, 1 filling, 1 full, 1 watched. 1 needs attention.").waitFor();
  await page.getByRole("list", { name: "Pools that need attention" }).getByText("12 available of 50").waitFor();
  await page.getByRole("link", { name: "All pools, and the forecast" }).click();
  await page.getByRole("heading", { level: 1, name: "Pools" }).waitFor();
  assert.deepEqual(await names(), [STOPPED.name_prefix, "exam-", "z-", "watched-"]);

  const stopped = card(STOPPED.name_prefix);
  const text = await stopped.innerText();
  assert.match(text, /Refill of this pool is stopped since .* \(23 min ago\): HTTP 403: <img/);
  assert.match(text, /Correct what the message names, such as .* tried again every 15 minutes/);
  assert.match(text, /Time to available\s+6 min/);
  assert.deepEqual(await stopped.locator(".figures dd").allInnerTexts(), ["50", "12", "3", "2", "60", "4"]);
  const meter = stopped.getByRole("meter", { name: /^Sandboxes of lab-.* in all$/ });
  assert.equal(await meter.getAttribute("aria-valuetext"), "84 of at most 120");
  assert.deepEqual([await meter.getAttribute("aria-valuenow"), await meter.getAttribute("aria-valuemax")], ["84", "120"]);
  await card("exam-").getByText(/^60 from .* until .* by a schedule, otherwise 50$/).waitFor();
  assert.equal(await card("watched-").getByRole("meter").count(), 0);
  await assertNothingRan();

  await card("z-").getByRole("link", { name: "Allocated" }).click();
  await page.getByRole("heading", { level: 1, name: "Sandboxes" }).waitFor();
  assert.equal(await page.getByLabel("Name begins with").inputValue(), "z-");
  assert.equal(await page.getByRole("combobox", { name: "Status" }).inputValue(), "allocated");
  assert.match(page.url(), /#\/sandboxes\?status=allocated&prefix=z-$/);
});

test("the sandboxes of a pool are those whose names begin with its prefix", { timeout }, async () => {
  const row = page.locator("table.sandboxes tbody tr");
  await signIn();
  await openView("Sandboxes");
  await page.getByText(/^Loaded at/).waitFor();
  const name = await row.first().locator("td:not(.select)").first().innerText();
  await page.goto(`${page.url().split("#")[0]}#/sandboxes?prefix=${encodeURIComponent(name)}`);
  await page.getByText(/^1 of .* match$/).waitFor();
  await page.getByLabel("Name begins with").fill(name.slice(1));
  await page.getByText(/^0 of .* match$/).waitFor();
});

test("of a thousand pools, those that need attention are first, and the rest is behind a summary", { timeout }, async () => {
  const many = Array.from({ length: 1000 }, (_, index) => pool(`lab-${String(index).padStart(4, "0")}-`, index % 100 === 7 ? { state: "late", available: 9, since: NOW - 900 } : {}));
  await showPools(...many);
  await signIn();
  await openView("Pools");
  await page.getByText("1,000 pools: 10 late, 990 full. 10 need attention.").waitFor();
  assert.deepEqual((await names()).slice(0, 11), [..."0123456789"].map((digit) => `lab-0${digit}07-`).concat("lab-0000-"));
  assert.equal(await card(/./).count(), 12);
  await page.getByText("988 more pools: 988 full").click();
  await card("lab-0040-").waitFor();
  assert.equal(await card(/./).count(), 60);
  await page.getByRole("button", { name: "Show 48 more of 940" }).click();
  assert.equal(await card(/./).count(), 108);
  await page.getByLabel("Name prefix contains").fill("LAB-099");
  await page.getByText("10 pools: 10 full.", { exact: true }).waitFor();
  assert.equal(await card(/./).count(), 10);
  await page.getByLabel("Name prefix contains").fill("none");
  await page.getByText("No pool matches.").waitFor();
});

test("an update of the figures keeps the focus", { timeout }, async () => {
  let available = 12;
  await editOverview((json) => ({ ...json, pools: [{ ...STOPPED, available: available++ }, pool("z-")] }));
  await signIn();
  await openView("Pools");
  const link = card("z-").getByRole("link", { name: "Available" });
  const figure = card(STOPPED.name_prefix).locator(".figures .available dd");
  const before = await figure.innerText();
  await link.focus();
  await refresh(page);
  await page.waitForFunction((text) => document.querySelector(".figures .available dd").innerText !== text, before);
  assert.ok(await link.evaluate((element) => element === document.activeElement));
});

test("without pools there is no card, and the page says how to get one", { timeout }, async () => {
  await showPools();
  await signIn();
  await page.getByText(/^Figures are/).waitFor();
  assert.equal(await page.getByRole("link", { name: "All pools, and the forecast" }).count(), 0);
  await openView("Pools");
  await page.getByText(/^The policy has no pools\./).waitFor();
  assert.equal(await card(/./).count() + await page.getByRole("heading", { name: "Forecast" }).count(), 0);
  await page.getByRole("main").getByRole("link", { name: "Policy" }).click();
  await page.getByRole("heading", { level: 1, name: "Policy" }).waitFor();
});

test("warnings about pools and the quarantine lead to their pages", { timeout }, async () => {
  const warnings = [
    { code: "pool_late", message: `Pool ${HTML} is late.` }, { code: "refill_stopped", message: "Refill is stopped." },
    { code: "quarantine_growing", message: "More sandboxes are quarantined." }, { code: "pool_low", message: "3 are available." },
  ];
  await editOverview((json) => ({ ...json, pools: [], warnings }));
  await signIn();
  const alerts = page.getByRole("alert").filter({ hasText: "is late" });
  await alerts.waitFor();
  assert.deepEqual(await alerts.getByRole("listitem").allInnerTexts(), [
    `Pool ${HTML} is late. Pools`, "Refill is stopped. Pools", "More sandboxes are quarantined. Quarantine", "3 are available.",
  ]);
  await alerts.getByRole("link", { name: "Quarantine" }).click();
  await page.getByRole("heading", { level: 1, name: "Quarantine" }).waitFor();
  await alerts.getByRole("link", { name: "Pools" }).first().click();
  await page.getByRole("heading", { level: 1, name: "Pools" }).waitFor();
  await assertNothingRan();
});

test("the forecast is for a time in the operator's time zone, and shows its assumptions", { timeout }, async () => {
  const at = Math.ceil((NOW + 86_400) / 3600) * 3600;
  const asked = [];
  await showPools(pool("z-"), STOPPED);
  await page.route("**/admin/forecast?*", async (route) => {
    asked.push(new URL(route.request().url()).searchParams.get("at"));
    if (asked.length === 1) return route.fulfill({ status: 503, json: { error: { code: "STORE_UNAVAILABLE", message: "The database does not answer." } } });
    const forecast = {
      target: 50, schedule: null, available: 50, available_now: 42, arriving: 3, created: 5, warming: 0, total: 70, max_total: 120,
      time_to_available_sec: 260, shortfall: null, assumptions: ["A new sandbox is available after 260 s."],
    };
    return route.fulfill({ json: {
      at,
      pools: [
        { ...forecast, name_prefix: "z-" },
        { ...forecast, name_prefix: STOPPED.name_prefix, available: 20, schedule: { from: at - 60, to: at + 60, target_available: 60 }, target: 60,
          shortfall: { missing: 40, reason: `Refill is stopped: ${HTML}.`, reached_at: at + 7200 } },
      ],
      assumptions: ["Nobody allocates a sandbox before then.", HTML],
    } });
  });
  await signIn();
  await openView("Pools");
  const input = page.getByLabel("What will be available at");
  const show = page.getByRole("button", { name: "Show", exact: true });
  assert.match(await input.evaluate((element) => element.getAttribute("aria-describedby").split(" ").map((id) => document.getElementById(id).innerText).join()), /In your time zone/);
  const offered = await input.inputValue();
  await input.fill("2020-01-01T10:00");
  await show.click();
  await page.getByText("Enter a time in the future.").waitFor();
  assert.equal(asked.length, 0);
  await input.fill(offered);
  await show.click();
  await page.getByText("The forecast could not be loaded: The database does not answer.").waitFor();
  await show.click();
  const rows = page.getByRole("region", { name: "Forecast" }).getByRole("row");
  await rows.first().waitFor();
  assert.deepEqual(asked, [String(at), String(at)]);
  const texts = (await rows.allInnerTexts()).map((text) => text.split(/\s*\t\s*/));
  assert.deepEqual(texts[2], ["z-", "50", "50", "yes", "42", "3", "5", "0", "70 of at most 120", "A new sandbox is available after 260 s."]);
  assert.match(texts[1][2], /^60, by the schedule until /);
  assert.match(texts[1][3], /^no, 40 are missing: Refill is stopped: <img.*>\. Reached at /);
  await page.getByRole("list", { name: "This assumes" }).getByText("Nobody allocates").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "H3");
  await assertNothingRan();
  for (const [theme, width] of [["light", 1280], ["dark", 360]]) {
    await page.getByLabel("Theme").selectOption(theme);
    await page.setViewportSize({ width, height: 800 });
    await assertAccessible(page, `pools and forecast: ${theme}, ${width} px`);
  }
  expectErrors(/status of 503/);
});
