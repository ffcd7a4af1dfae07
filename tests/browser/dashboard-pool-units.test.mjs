// Tests the modules of the dashboard about pools, checks, refill and the quarantine that do not need a browser.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

process.env.TZ = "Europe/Zurich";
const load = (name) => import(new URL(`../../dashboard/${name}.js`, import.meta.url));
const state = await load("pools/pool-state");
const forecast = await load("pools/forecast-text");
const { GROUPS, countsText: quarantineText, groupOf, setAsideText } = await load("quarantine/set-aside");
const { countsText, notesOf, progressOf } = await load("jobs/run-text");
const { howToTurnOn, isOff } = await load("jobs/optional-jobs");
const { ACTIONS } = await load("jobs/actions");
const { placeOf } = await load("policy/locate");
const { valueText } = await load("policy/policy-text");
const { FIELDS } = await load("sandboxes/fields");

const NOW = 1_774_000_000;
const pool = (prefix, more) => ({
  name_prefix: prefix, target: 5, target_available: 5, available: 5, total: 9, max_total: 12, state: "full", reason: null, since: null, mode: "on", ...more,
});
const names = (pools) => pools.map(({ name_prefix: prefix }) => prefix).join(" ");

describe("pools", () => {
  test("those that need attention come first, then each state by name", () => {
    const pools = [
      pool("full-b"), pool("full-a"), pool("new", { state: "resting" }), pool("filling", { state: "filling", available: 3 }),
      pool("empty", { state: "filling", available: 0 }), pool("max", { state: "at_maximum" }), pool("late", { state: "late" }),
      pool("watched", { state: "watched", target: 0, available: 0 }), pool("stopped", { state: "stopped" }),
    ];
    assert.equal(names(state.sortPools(pools)), "stopped late max empty filling full-a full-b watched new");
    assert.equal(names(pools.filter(state.needsAttention)), "empty max late stopped");
    assert.equal(state.countsByState(pools.slice(0, 4)), "1 filling, 2 full, 1 resting");
  });

  test("the state says why, since when, what to do and when it is tried again", () => {
    const texts = (more) => state.stateTexts(pool("a", more), NOW);
    const [why, advice] = texts({ state: "stopped", reason: "HTTP 403: the quota is reached.", since: NOW - 240 });
    assert.equal(why, "Refill of this pool is stopped since 2026-03-20 10:42 (4 min ago): HTTP 403: the quota is reached.");
    assert.match(advice, /^Correct what the message names, such as .* every 15 minutes, and at once when the policy changes/);
    assert.equal(texts({ state: "stopped" })[0], "Refill of this pool is stopped.");
    assert.match(texts({ state: "late", since: NOW - 60, reason: `the oldest began at ${NOW - 900}` })[0], /target for longer than a creation takes, since .* the oldest began at 10:31:40\.$/);
    assert.match(texts({ state: "at_maximum", reason: "12 exist" }).join(" "), /at its maximum 12 exist\. Nothing is created until .* max_total\.$/);
    assert.equal(texts({ state: "filling" }).join(" "), "Below its target. Accounts are being created, or will be by the next runs of refill.");
    assert.match(texts({ state: "filling", mode: "plan" }).join(" "), /because REFILL_MODE is plan\.$/);
    assert.deepEqual(texts({}), ["It has its target."]);
    assert.match(texts({ state: "watched", mode: "off" })[0], /REFILL_MODE is on and the pool has a create table/);
    assert.deepEqual(texts({ state: "resting" }), []);
    assert.deepEqual(texts({ state: "resting", reason: "why" }), ["why."]);
  });

  test("target, total and time to available are in words", () => {
    assert.equal(state.targetText(pool("a")), "5");
    const schedule = { from: NOW, to: NOW + 3600, target_available: 60 };
    assert.equal(state.targetText(pool("a", { target: 60, schedule })), "60 from 2026-03-20 10:46 until 2026-03-20 11:46 by a schedule, otherwise 5");
    assert.deepEqual([{}, { total: 15 }, { max_total: null }].map((more) => state.totalText(pool("a", more))), [
      "9 of at most 12", "15, 3 more than its maximum of 12", "9, without a maximum",
    ]);
    assert.deepEqual([null, 360].map(state.timeToAvailableText), ["not known yet", "6 min"]);
  });
});

describe("forecast", () => {
  const lacking = { missing: 12, reason: "12 are being created then.", reached_at: NOW };

  test("pools that lack most come first", () => {
    const pools = [pool("b"), pool("a"), pool("z", { shortfall: lacking }), pool("y", { shortfall: { ...lacking, missing: 3 } })];
    assert.equal(names(forecast.sortForecasts(pools)), "z y a b");
  });

  test("a shortfall has its reason and its end", () => {
    assert.equal(forecast.shortfallText({ shortfall: null }), "yes");
    assert.equal(forecast.shortfallText({ shortfall: lacking }), "no, 12 are missing: 12 are being created then. Reached at 2026-03-20 10:46.");
    assert.equal(forecast.shortfallText({ shortfall: { missing: 1, reason: "off", reached_at: null } }), "no, 1 is missing: off. Not reached within a week.");
    assert.equal(forecast.targetText({ target: 60, schedule: { to: NOW } }), "60, by the schedule until 2026-03-20 10:46");
  });
});

describe("quarantine", () => {
  const rows = [
    { quarantined_by: "check", quarantined_from: "provisioning" },
    { quarantined_by: "ci", quarantined_from: "allocated", replaced_by: "9", allocated_to_track: "play-7" },
    { quarantined_by: "ada", quarantined_from: "allocated", allocated_to_track: "play-8" },
    { quarantined_by: null, quarantined_from: null },
  ];

  test("a sandbox was set aside by the check, a replacement or an operator", () => {
    assert.deepEqual(rows.map(groupOf), ["check", "replacement", "operator", "operator"]);
    assert.deepEqual(rows.map(setAsideText), ["the check of accounts", "a replacement for play-7 (ci)", "ada", "not known"]);
    assert.equal(quarantineText(rows), "1 by the check of accounts, 1 by a replacement, 2 by an operator");
    assert.deepEqual(GROUPS.map(({ key }) => key), ["check", "replacement", "operator"]);
  });
});

describe("checks and refill", () => {
  test("the counts of runs are in words, and their progress is known", () => {
    const counts = { due: 12, usable: 5, not_yet: 3, failed: 1, quarantined: 1, deferred: 0 };
    assert.equal(countsText({ counts }), "12 due, 5 usable, 3 not usable yet, 1 quarantined, 1 failed");
    assert.equal(progressOf({ job: "check", state: "running", counts }), 10 / 12);
    assert.equal(countsText({ counts: { created: 0, adopted: 1, unanswered: 2, dropped: 0, pools: [] } }), "0 created, 1 adopted, 2 without an answer");
    assert.equal(progressOf({ job: "refill", state: "running", counts: { created: 1 } }), null);
    assert.deepEqual(notesOf({ state: "succeeded", counts: { recheck_guard: "too many" } }, 0), ["Sandboxes were kept out of quarantine: too many"]);
  });

  test("a plan says how many accounts would be created", () => {
    assert.equal(countsText({ counts: { plan: true, created: 0, pools: [{ creations: 3 }, { creations: 0 }] } }), "3 accounts would be created");
    assert.equal(countsText({ counts: { plan: true, created: 0 } }), "0 accounts would be created");
  });

  test("a job without an interval is off if it may be, and says how it is turned on", () => {
    const jobs = ["check", "refill", "bulk-delete", "sync"].map((job) => ({ job, interval_seconds: job === "sync" ? 60 : null }));
    assert.deepEqual(jobs.map(isOff), [true, true, false, false]);
    assert.match(howToTurnOn("refill"), /Set REFILL_MODE to plan or on/);
    assert.deepEqual(new Set(ACTIONS.map(({ job }) => job).filter(Boolean)), new Set(["check", "refill"]));
  });

  test("the time that an account was not usable is a duration", () => {
    const { text, csv } = FIELDS.find(({ key }) => key === "unusable_seconds");
    assert.deepEqual([text({ unusable_seconds: 600 }), text({ unusable_seconds: 0 }), csv({ unusable_seconds: 600 })], ["10 min", "", 600]);
  });
});

describe("schedules in the policy", () => {
  test("a schedule that is new or gone is a sentence", () => {
    const schedule = { from: "2026-11-28T10:00:00", to: "2026-11-28T12:00:00", target_available: 60 };
    assert.equal(valueText(schedule), "60 available from 2026-11-28T10:00:00 to 2026-11-28T12:00:00");
    assert.equal(valueText({ ...schedule, time_zone: "Europe/Berlin", lead_minutes: 90 }), "60 available from 2026-11-28T10:00:00 to 2026-11-28T12:00:00 (Europe/Berlin), created from 90 minutes before");
    assert.equal(valueText([schedule]), JSON.stringify([schedule]));
  });

  test("the fault of a schedule has its line, of several pools with several schedules", () => {
    const text = [
      "[[pool]]", 'name_prefix = "a"', "[[pool.schedule]]", "from = 2026-11-28T10:00:00", "[[pool]]", "[[pool.schedule]]", "[[pool.schedule]]",
      "lead_minutes = -1",
    ].join("\n");
    assert.equal(placeOf(text, "pool[0].schedule[0].from")?.line, 4);
    assert.equal(placeOf(text, "pool[1].schedule[0].to")?.line, 6);
    assert.equal(placeOf(text, "pool[1].schedule[1].lead_minutes")?.line, 8);
  });
});
