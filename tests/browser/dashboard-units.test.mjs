// Tests the modules of the dashboard that do not need a browser.
import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { describe, mock, test } from "node:test";

process.env.TZ = "Europe/Zurich";
// Node 20.19 and newer detect by themselves that these files are modules.
const load = (name) => import(new URL(`../../dashboard/${name}.js`, import.meta.url));
const { csvField, toCsv } = await load("lib/csv");
const { NO_LAB, createSelection, filterRows, labsOf, pageOf, sortRows } = await load("sandboxes/rows");
const { ACTIONS, holderText } = await load("sandboxes/actions");
const { addressOf, addressOfSandbox, parseAddress } = await load("sandboxes/address");
const { createCheckedRows, idsBetween } = await load("sandboxes/checked-rows");
const { createInventory } = await load("sandboxes/inventory");
const { forEach, perform } = await load("sandboxes/perform");
const { FIELDS, niosxaasOutcome } = await load("sandboxes/fields");
const format = await load("lib/format");
const { backoffMs, createPoll } = await load("lib/poll");
const { hourly, stacked, timeRange, withGaps } = await load("lib/time-series")
const { countByLab, countByTimeLeft, hoursByLab } = await load("overview/allocation-counts");
const { countsText, notesOf, progressOf } = await load("jobs/run-text");
const { includesRole } = await load("shell/session");
const { ApiError, createApi } = await load("lib/api");
const { fromLocalInput, toLocalInput } = await load("lib/local-time");
const auditFilter = await load("audit/filter");
const { readAll, readPage } = await load("audit/reader");
const { pauseText } = await load("pauses/activities");
const tokenText = await load("tokens/token-text");
const { RECORD_COLUMNS, actionName, actorText, changeTexts } = await load("lib/audit-record");

const ids = (rows) => rows.map(({ sandbox_id: id }) => id).join(" ");

describe("csv", () => {
  test("a field is quoted only if it has to be", () => {
    assert.equal(csvField("plain text"), "plain text");
    assert.equal(csvField("a,b"), '"a,b"');
    assert.equal(csvField('say "no"'), '"say ""no"""');
    assert.equal(csvField("two\nlines"), '"two\nlines"');
    assert.equal(csvField("a\r"), '"a\r"');
    assert.equal(csvField(null), "");
    assert.equal(csvField(undefined), "");
    assert.equal(csvField(0), "0");
  });

  test("a formula is escaped", () => {
    assert.equal(csvField("=1+1"), "'=1+1");
    assert.equal(csvField("+41"), "'+41");
    assert.equal(csvField("-1"), "'-1");
    assert.equal(csvField("@SUM(A1)"), "'@SUM(A1)");
    assert.equal(csvField("\tx"), "'\tx");
    assert.equal(csvField("\rx"), '"\'\rx"');
    assert.equal(csvField('=HYPERLINK("x","y")'), '"\'=HYPERLINK(""x"",""y"")"');
    assert.equal(csvField("a=1"), "a=1");
    assert.equal(csvField("x;=1+1;y"), "x;'=1+1;y");
    assert.equal(csvField("x\t-1"), "x\t'-1");
    for (const character of "\uFF1D\uFF0B\uFF0D\uFF20\uFE66\uFE62\uFE63\uFE6B\u2212") {
      assert.equal(csvField(`${character}1+1`), `'${character}1+1`);
      assert.equal(csvField(`x;${character}1`), `x;'${character}1`);
      assert.equal(csvField(`a${character}1`), `a${character}1`);
    }
    assert.equal(csvField("\n=1"), '"\n\'=1"');
    assert.equal(csvField("a\r\nb"), '"a\r\nb"');
  });

  test("a file has a byte order mark, a header and a line for each row", () => {
    const columns = [{ key: "a", csv: (row) => row.a }, { key: "b", csv: (row) => row.b }];
    assert.equal(toCsv(columns, [{ a: 1, b: "x,y" }, { a: null, b: "z" }]), '\uFEFFa,b\r\n1,"x,y"\r\n,z\r\n');
    assert.equal(toCsv(columns, []), "\uFEFFa,b\r\n");
  });

  test("times are written as ISO 8601, and a time that is not set is empty", () => {
    const field = (key) => FIELDS.find((one) => one.key === key);
    assert.equal(field("allocated_at").csv({ allocated_at: 1_774_000_000 }), "2026-03-20T09:46:40Z");
    assert.equal(field("allocated_at").csv({ allocated_at: 0 }), "");
    assert.equal(field("expires_at").csv({ expires_at: null }), "");
  });
});

describe("rows", () => {
  const rows = [
    { sandbox_id: "10", name: "Alpha", status: "stale", track_name: null, deletion_error: null },
    { sandbox_id: "9", name: "beta", status: "allocated", track_name: "dns", allocated_to_track: "Play-7", deletion_error: null },
    { sandbox_id: "100", name: "Gamma", status: "deletion_failed", track_name: "cloud", deletion_error: "HTTP 500" },
  ];

  test("a row must match every filter", () => {
    assert.equal(ids(filterRows(rows, {})), "10 9 100");
    assert.equal(ids(filterRows(rows, { status: "stale" })), "10");
    assert.equal(ids(filterRows(rows, { lab: "dns" })), "9");
    assert.equal(ids(filterRows(rows, { lab: NO_LAB })), "10");
    assert.equal(ids(filterRows(rows, { lab: "dns", status: "stale" })), "");
    assert.equal(ids(filterRows(rows, { prefix: "be" })), "9");
    assert.equal(ids(filterRows(rows, { prefix: "eta" })), "", "only at the beginning of the name");
  });

  test("a search ignores case, includes callers and reasons, and requires every word", () => {
    assert.equal(ids(filterRows(rows, { search: "play-7" })), "9");
    assert.equal(ids(filterRows(rows, { search: " http gAmma " })), "100");
    assert.equal(ids(filterRows(rows, { search: "http beta" })), "");
    assert.equal(ids(filterRows(rows, { search: "null" })), "");
  });

  test("sorting ignores case, puts missing values last, and does not change its input", () => {
    const before = ids(rows);
    assert.equal(ids(sortRows(rows, (row) => row.name)), "10 9 100");
    assert.equal(ids(sortRows(rows, (row) => row.name, true)), "100 9 10");
    assert.equal(ids(sortRows(rows, (row) => row.track_name)), "100 9 10");
    assert.equal(ids(sortRows(rows, (row) => row.track_name, true)), "9 100 10");
    assert.equal(ids(rows), before);
  });

  test("ids are sorted as numbers, also among equal values", () => {
    const id = FIELDS.find(({ key }) => key === "sandbox_id");
    assert.equal(ids(sortRows(rows, id.value)), "9 10 100");
    assert.equal(ids(sortRows(rows, id.value, true)), "100 10 9");
    assert.equal(ids(sortRows(rows, () => 1, true)), "9 10 100");
  });

  test("a page beyond the end is the last page", () => {
    const many = Array.from({ length: 101 }, (_, at) => at);
    assert.deepEqual(pageOf(many, 9, 50), { page: 2, pages: 3, rows: [100] });
    assert.deepEqual(pageOf(many, -1, 2).rows, [0, 1]);
    assert.deepEqual(pageOf([], 4, 50), { page: 0, pages: 1, rows: [] });
  });

  test("labs are unique and sorted", () => {
    assert.deepEqual(labsOf([...rows, ...rows]), { labs: ["cloud", "dns"], someWithout: true });
    assert.deepEqual(labsOf([]), { labs: [], someWithout: false });
  });

  test("a selection is cached until the rows, the order or the filter change", () => {
    let calls = 0;
    const column = { value: (row) => (calls += 1, row.name) };
    const select = createSelection();
    const query = { column, isDescending: false, filter: { search: "a" } };
    const first = select(rows, query);
    assert.equal(select(rows, { ...query, filter: { search: "a" } }), first);
    assert.equal(ids(select(rows, { ...query, filter: { search: "gam" } })), "100");
    assert.equal(calls, rows.length);
    assert.equal(ids(select(rows, { ...query, isDescending: true })), "100 9 10");
    assert.equal(ids(select(rows.slice(1), query)), "9 100");
  });

  test("100,000 rows are sorted and searched within three seconds", () => {
    const many = Array.from({ length: 100_000 }, (_, at) => ({ sandbox_id: String(at), name: `lab-${(at * 7919) % 100_000}` }));
    const started = performance.now();
    const sorted = sortRows(many, (row) => row.name);
    assert.equal(filterRows(sorted, { search: "lab-99999" }).length, 1);
    assert.ok(performance.now() - started < 3000);
  });

  test("the NIOSXaaS outcome is the final one", () => {
    assert.equal(niosxaasOutcome({}), "");
    assert.equal(niosxaasOutcome({ niosxaas_cleanup_skipped: "none" }), "skipped");
    assert.equal(niosxaasOutcome({ niosxaas_cleanup_failed_reason: "x" }), "failed");
    assert.equal(niosxaasOutcome({ niosxaas_cleaned_at: 5, niosxaas_cleanup_failed_reason: "x" }), "cleaned");
  });
});

describe("addresses", () => {
  test("an address keeps every filter, also of texts with special characters", () => {
    for (const filter of [
      { status: "stale", lab: "", search: "", prefix: "" },
      { status: "", lab: "a&b=c #1/2", search: "50 % ü", prefix: "a/ &" },
      { status: "allocated", lab: NO_LAB, search: "", prefix: "" },
    ]) assert.deepEqual(parseAddress(addressOf(filter).replace("#/sandboxes", "")), { filter });
    assert.equal(addressOf({}), "#/sandboxes?");
  });

  test("the bare address of the view has no filter, and one without values has every filter empty", () => {
    assert.deepEqual(parseAddress(""), {});
    assert.deepEqual(parseAddress("?"), { filter: { status: "", lab: "", search: "", prefix: "" } });
  });

  test("an address leads to one sandbox, whatever its id", () => {
    for (const id of ["2009521", "a/b?c#d", "50 %"]) {
      assert.deepEqual(parseAddress(addressOfSandbox(id).replace("#/sandboxes", "")), { id });
    }
    assert.deepEqual(parseAddress("/"), {});
    assert.deepEqual(parseAddress("/%"), {});
  });
});

describe("format", () => {
  test("durations have two units at most", () => {
    const texts = [[-3, "0 s"], [8, "8 s"], [59.6, "1 min"], [725, "12 min"], [3600, "1 h"], [15_960, "4 h 26 min"], [172_800, "2 d"], [273_600, "3 d 4 h"]];
    for (const [seconds, text] of texts) assert.equal(format.duration(seconds), text);
  });

  test("relative times are in the past or in the future", () => {
    assert.equal(format.relative(100, 340), "4 min ago");
    assert.equal(format.relative(700, 340), "in 6 min");
    assert.equal(format.relative(340, 340.3), "now");
  });

  test("times are shown in the local time zone, and a time that is not set is empty", () => {
    assert.equal(format.dateTime(1_774_000_000), "2026-03-20 10:46");
    assert.equal(format.exactTime(1_774_000_007), "2026-03-20 10:46:47");
    assert.equal(format.clockTime(1_774_000_000), "10:46");
    assert.equal(format.isoTime(1_774_000_000), "2026-03-20T09:46:40Z");
    for (const unset of [0, null, undefined]) {
      assert.equal(format.dateTime(unset), "");
      assert.equal(format.exactTime(unset), "");
      assert.equal(format.isoTime(unset), "");
    }
  });

  test("numbers have separators, and nouns their plural", () => {
    assert.equal(format.number(20_000), "20,000");
    assert.equal(format.sandboxes(1), "1 sandbox");
    assert.equal(format.sandboxes(1200), "1,200 sandboxes");
    assert.equal(format.statusName("pending_deletion"), "pending deletion");
    assert.equal(format.statusName("new_one"), "new_one");
  });
});

describe("poll", () => {
  /** Mocks the timers, and returns a page that can be hidden, and functions to advance the time. */
  function setUp() {
    mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
    const page = Object.assign(new EventEmitter(), {
      hidden: false,
      addEventListener(name, listener) { this.on(name, listener); },
      removeEventListener(name, listener) { this.off(name, listener); },
      setHidden(isHidden) {
        this.hidden = isHidden;
        this.emit("visibilitychange");
      },
    });
    return { page, settle: () => new Promise((resolve) => setImmediate(resolve)), advance: (ms) => mock.timers.tick(ms) };
  }
  const resettingTimers = (test) => async (context) => {
    try {
      await test(context);
    } finally {
      mock.timers.reset();
    }
  };

  test("the backoff doubles with each failure, and respects Retry-After", () => {
    assert.deepEqual([1, 2, 3, 10].map((failures) => backoffMs(failures, 10_000)), [10_000, 20_000, 40_000, 300_000]);
    assert.equal(backoffMs(1, 10_000, 30), 30_000);
    assert.equal(backoffMs(9, 10_000, 600), 600_000);
    assert.equal(backoffMs(1000, 2000), 300_000);
    assert.equal(backoffMs(9, 5000, null, 5000), 5000);
    assert.equal(backoffMs(9, 5000, 30, 5000), 30_000);
  });

  test("a poll runs immediately, then at its interval, until it is stopped", resettingTimers(async () => {
    const { page, settle, advance } = setUp();
    const run = mock.fn(async () => {});
    const poll = createPoll({ run, intervalMs: 1000, page });
    poll.start();
    poll.start();
    assert.equal(run.mock.callCount(), 1);
    await settle();
    advance(999);
    assert.equal(run.mock.callCount(), 1);
    advance(1);
    await settle();
    assert.equal(run.mock.callCount(), 2);
    poll.stop();
    advance(5000);
    page.setHidden(false);
    assert.equal(run.mock.callCount(), 2);
  }));

  test("a poll never overlaps itself, but runs once more after a refresh during a run", resettingTimers(async () => {
    const { page, settle } = setUp();
    const finish = [];
    const run = mock.fn(() => new Promise((resolve) => finish.push(resolve)));
    const poll = createPoll({ run, intervalMs: 1000, page });
    poll.start();
    poll.refresh();
    poll.refresh();
    page.setHidden(false);
    assert.equal(run.mock.callCount(), 1);
    finish[0]();
    await settle();
    assert.equal(run.mock.callCount(), 2);
    finish[1]();
    await settle();
    assert.equal(run.mock.callCount(), 2);
    poll.stop();
  }));

  test("a poll pauses while the page is hidden, and runs immediately when it is shown", resettingTimers(async () => {
    const { page, settle, advance } = setUp();
    const run = mock.fn(async () => {});
    const poll = createPoll({ run, intervalMs: 1000, page });
    page.hidden = true;
    poll.start();
    advance(10_000);
    assert.equal(run.mock.callCount(), 0);
    page.setHidden(false);
    await settle();
    assert.equal(run.mock.callCount(), 1);
    page.setHidden(true);
    advance(10_000);
    assert.equal(run.mock.callCount(), 1);
    page.setHidden(false);
    assert.equal(run.mock.callCount(), 2);
    await settle();
    poll.stop();
  }));

  test("a poll reports failures, and sends nothing before Retry-After is over", resettingTimers(async () => {
    const { page, settle, advance } = setUp();
    const run = mock.fn(async () => { throw Object.assign(new Error("busy"), { retryAfter: 30 }); });
    const onFailure = mock.fn();
    const poll = createPoll({ run, intervalMs: 1000, onFailure, page });
    poll.start();
    await settle();
    assert.deepEqual(onFailure.mock.calls[0].arguments.slice(1), [30_000]);
    poll.refresh();
    page.setHidden(false);
    advance(29_999);
    assert.equal(run.mock.callCount(), 1);
    advance(1);
    assert.equal(run.mock.callCount(), 2);
    poll.stop();
  }));

  test("a success resets the backoff", resettingTimers(async () => {
    const { page, settle, advance } = setUp();
    let isAvailable = false;
    const run = mock.fn(async () => { if (!isAvailable) throw new Error("down"); });
    const poll = createPoll({ run, intervalMs: 1000, page });
    poll.start();
    await settle();
    advance(1000);
    await settle();
    isAvailable = true;
    advance(1999);
    assert.equal(run.mock.callCount(), 2);
    advance(1);
    await settle();
    assert.equal(run.mock.callCount(), 3);
    advance(1000);
    assert.equal(run.mock.callCount(), 4);
    poll.stop();
  }));
});

describe("charts", () => {
  test("labs beyond the largest ones are summed up", () => {
    const rows = ["a", "b", "b", "c", null, null, null].map((lab) => ({ track_name: lab }));
    assert.deepEqual(countByLab(rows, 2), {
      top: [{ lab: null, count: 3 }, { lab: "b", count: 2 }],
      rest: { labs: 2, count: 2 },
    });
  });

  test("hours are added up by lab, and a sandbox without a time of allocation is left out", () => {
    const row = (lab, allocatedAt) => ({ track_name: lab, allocated_at: allocatedAt });
    const { all, top, rest } = hoursByLab([row("a", 900), row("a", 700), row("b", 0), row(null, 400), row("c", 990), row("d", 1005)], 1000, 2);
    assert.deepEqual(all, { count: 5, total: 1010, longest: 600, average: 202 });
    assert.deepEqual(top, [
      { lab: null, count: 1, total: 600, longest: 600, average: 600 }, { lab: "a", count: 2, total: 400, longest: 300, average: 200 },
    ]);
    assert.deepEqual(rest, { labs: 2, count: 2, total: 10, longest: 10, average: 5 });
    assert.deepEqual(hoursByLab([], 1000).all, { count: 0, total: 0, longest: 0, average: 0 });
  });

  test("time left is counted by half hours, and allocations past expiry separately", () => {
    const rows = [-5, 0, 1, 1799, 1800, 5400, 99_999, null].map((left) => ({ expires_at: left === null ? null : 1000 + left }));
    const { pastExpiry, buckets, isLastOpen } = countByTimeLeft(rows, 1000);
    assert.equal(pastExpiry, 2);
    assert.deepEqual(buckets.slice(0, 4), [2, 1, 0, 1]);
    assert.equal(buckets[24], 1);
    assert.equal(isLastOpen, true);
    assert.deepEqual(countByTimeLeft([], 0), { pastExpiry: 0, buckets: [], isLastOpen: false });
  });

  test("missing samples interrupt the line", () => {
    const samples = [{ at: 0, n: 1 }, { at: 300, n: 1 }, { at: 1200, n: 1 }];
    assert.deepEqual(withGaps(samples, 300).map(({ at, n }) => [at, n]), [[0, 1], [300, 1], [600, undefined], [1200, 1]]);
    assert.deepEqual(stacked([[0, 1], [1, null], [2, null]]), [[0, 1], [1, null], [3, null]]);
  });

  test("the time axis covers an hour at least, so that its labels differ", () => {
    assert.deepEqual(timeRange(9000, 9000), [5400, 9000]);
    assert.deepEqual(timeRange(8700, 9000), [5400, 9000]);
    assert.deepEqual(timeRange(0, 86_400), [0, 86_400]);
  });

  test("an hour has its last state and the sums of its events", () => {
    const sample = (at, available, allocations) => ({ at, available, allocations, releases: 1 });
    assert.deepEqual(hourly([sample(0, 9, 1), sample(300, 8, 2), sample(3600, 7, 4)]), [
      { at: 3600, available: 7, allocations: 4, releases: 1 },
      { at: 0, available: 8, allocations: 3, releases: 2 },
    ]);
  });
});

describe("runs", () => {
  test("progress is the share of the due sandboxes that are done", () => {
    const running = (job, counts) => progressOf({ job, state: "running", counts });
    assert.equal(running("cleanup", { due: 10, deleted: 3, failed: 2 }), 0.5);
    assert.equal(running("auto-expire", { due: 4, expired: 1 }), 0.25);
    assert.equal(running("bulk-delete", { due: 4, deleted: 9 }), 1);
    assert.equal(running("sync", { due: 4 }), null);
    assert.equal(running("cleanup", { due: 0 }), null);
  });

  test("zeros are left out, except of the main counts", () => {
    assert.equal(countsText({ counts: { status: "completed", due: 0, deleted: 0, failed: 0, duration_ms: 3 } }), "0 due, 0 deleted");
    assert.equal(countsText({ counts: { synced: 2000, inserted: 3, skipped: 0 } }), "2,000 listed by CSP, 3 inserted");
    assert.equal(countsText({ counts: {} }), "");
  });

  test("notes have the error, the stale guard and missing heartbeats", () => {
    const notes = notesOf({ state: "running", updated_at: 0, error: "bad", counts: { stale_guard: "too many" } }, 60);
    assert.deepEqual(notes, [
      "bad", "Nothing was marked stale: too many", "No heartbeat for 1 min: its broker may have died. The next run takes over.",
    ]);
    assert.deepEqual(notesOf({ state: "succeeded", updated_at: 0, error: null, counts: {} }, 60), []);
  });
});

describe("actions", () => {
  const held = { sandbox_id: "7", status: "allocated", allocated_to_track: "play-7", track_name: "dns", expires_at: 1_774_000_000 };
  const allowed = (row) => ACTIONS.filter((action) => action.allows(row)).map(({ name }) => name).join(" ");

  test("each status allows its actions, and only a sandbox that nobody has held is restored", () => {
    assert.equal(allowed({ status: "provisioning" }), "quarantine delete");
    assert.equal(allowed({ status: "available" }), "quarantine delete");
    assert.equal(allowed(held), "release extend quarantine");
    assert.equal(allowed({ ...held, status: "pending_deletion" }), "");
    assert.equal(allowed({ status: "stale" }), "quarantine delete");
    assert.equal(allowed({ ...held, status: "deletion_failed" }), "delete");
    assert.equal(allowed({ status: "quarantined", quarantined_from: "stale" }), "restore delete");
    assert.equal(allowed({ ...held, status: "quarantined", quarantined_from: "allocated" }), "delete");
    assert.equal(allowed({ status: "new_one" }), "");
  });

  test("the holder is named with its lab and the end of its allocation", () => {
    assert.equal(holderText(held, 1_773_996_400), "play-7 of lab dns holds it until 2026-03-20 10:46 (in 1 h).");
    assert.equal(holderText(held, 1_774_000_060), "play-7 of lab dns holds it; its time was over at 2026-03-20 10:46 (1 min ago).");
    assert.equal(holderText({ ...held, track_name: null, expires_at: null }, 0), "play-7 holds it.");
    assert.equal(holderText({ ...held, status: "deletion_failed" }, 0), "Nobody holds it; play-7 of lab dns held it last.");
    assert.equal(holderText({ status: "available" }, 0), "It has never had a holder.");
  });

  test("the end of a quarantine depends on whether a sandbox was held", () => {
    const effect = (...rows) => ACTIONS.find(({ name }) => name === "quarantine").accountEffect(rows);
    const free = { status: "available" };
    assert.match(effect(free), /can be restored\.$/);
    assert.match(effect(held), /nobody gets it\. One that had a holder can only be deleted\.$/);
    assert.match(effect(free, held), /can be restored\. One that had a holder can only be deleted\.$/);
  });

  test("what is restored becomes what it was, and a new account is checked first", () => {
    const effect = (...rows) => ACTIONS.find(({ name }) => name === "restore").accountEffect(rows);
    assert.equal(effect({ quarantined_from: "stale" }), "It becomes stale again, as it was.");
    assert.match(effect({ quarantined_from: "provisioning" }), /becomes provisioning again, as it was\. Its account is checked before it can be allocated; without checks, it becomes available\.$/);
    assert.match(effect({ quarantined_from: "provisioning" }, { quarantined_from: "available" }), /becomes provisioning or available again.* Available ones can be allocated at once\.$/);
  });

  test("an action is repeated only if the broker refused it for its rate", async () => {
    const release = ACTIONS[0];
    const apiWith = (...answers) => ({ calls: [], async post(path, body) {
      this.calls.push([path, body]);
      const answer = answers.shift();
      if (answer instanceof Error) throw answer;
      return answer;
    } });
    const error = (status) => new ApiError("no", { status, retryAfter: 0.001 });
    const limited = apiWith(error(429), error(429), { status: "pending_deletion" });
    assert.deepEqual(await perform(limited, release, "a/b", { reason: "x" }), { row: { status: "pending_deletion" } });
    assert.deepEqual(limited.calls[2], ["/admin/sandboxes/a%2Fb/release", { reason: "x" }]);
    const refused = error(409);
    assert.deepEqual(await perform(apiWith(refused), release, "7", {}), { error: refused });
    for (const status of [0, 400, 503]) {
      const api = apiWith(error(status), {});
      await assert.rejects(perform(api, release, "7", {}), { status });
      assert.equal(api.calls.length, 1);
    }
    await assert.rejects(perform(apiWith(...Array.from({ length: 9 }, () => error(429))), release, "7", {}), { status: 429 });
  });

  test("each item has one result, whichever fail, and at most so many run at once", async () => {
    let running = 0;
    let most = 0;
    const results = [];
    await forEach([...Array(20).keys()], async (item) => {
      most = Math.max(most, running += 1);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
      if (item % 3 === 0) throw new ApiError("no");
      return { row: item };
    }, (item, result) => results.push([item, result.row ?? result.error.message]), () => false, 4);
    assert.equal(most, 4);
    assert.deepEqual(results.sort(([a], [b]) => a - b), [...Array(20).keys()].map((item) => [item, item % 3 === 0 ? "no" : item]));
  });

  test("no item is begun after the stop", async () => {
    let begun = 0;
    await forEach([...Array(20).keys()], async () => ({ row: begun += 1 }), () => {}, () => begun >= 5, 2);
    assert.ok(begun >= 5 && begun <= 6, String(begun));
  });

  test("a range of checked rows follows the page, in both directions", () => {
    const page = ["4", "9", "1", "7"];
    assert.deepEqual(idsBetween(page, "9", "7"), ["9", "1", "7"]);
    assert.deepEqual(idsBetween(page, "1", "4"), ["4", "9", "1"]);
    assert.deepEqual(idsBetween(page, null, "1"), ["1"]);
  });

  test("a click with the shift key checks the rows from the one before", () => {
    const page = ["4", "9", "1", "7"];
    const checked = createCheckedRows();
    const click = (id, isChecked, shiftKey) => checked.toggle(page, id, { target: { checked: isChecked }, shiftKey });
    const rows = page.map((id) => ({ sandbox_id: id }));
    const ids = () => checked.among(rows).map(({ sandbox_id: id }) => id);
    click("9", true, false);
    click("7", true, true);
    assert.deepEqual(ids(), ["9", "1", "7"]);
    click("1", false, false);
    click("4", false, true);
    assert.deepEqual(ids(), ["7"]);
  });

  test("sandboxes that leave the pool are no longer checked", () => {
    const checked = createCheckedRows();
    const rows = ["1", "2", "3"].map((id) => ({ sandbox_id: id }));
    checked.set(["1", "3"], true);
    checked.keepOnly(rows.slice(0, 2));
    assert.deepEqual(checked.among(rows), [rows[0]]);
    checked.set(["1"], false);
    assert.equal(checked.size(), 0);
  });
});

describe("inventory", () => {
  const row = (id, updatedAt) => ({ sandbox_id: id, updated_at: updatedAt });

  test("the answer to a write is kept by a load that began before it", async () => {
    const inventory = createInventory({ api: { get: async (path, { cursor }) => pages[cursor ?? 0]() }, now: () => 0, onChange: () => {} });
    const pages = [
      () => ({ sandboxes: [row("1", 5), row("2", 5), row("3", 5)], cursor: 1 }),
      () => {
        inventory.put([["1", row("1", 6)], ["2", null], ["3", row("3", 6)]]);
        return { sandboxes: [row("3", 9), row("4", 5)], cursor: null };
      },
    ];
    await inventory.load();
    assert.deepEqual(inventory.state.rows.map((one) => [one.sandbox_id, one.updated_at]), [["1", 6], ["3", 9], ["4", 5]]);
    // The next load has it itself.
    pages[1] = () => ({ sandboxes: [], cursor: null });
    await inventory.load();
    assert.deepEqual(inventory.state.rows.map((one) => one.updated_at), [5, 5, 5]);
  });

  test("rows are published only if one of them changes", () => {
    let changes = 0;
    const inventory = createInventory({ api: {}, now: () => 0, onChange: () => { changes += 1; } });
    inventory.put([["1", row("1", 5)]]);
    inventory.put([["1", row("1", 5)], ["2", null]]);
    assert.equal(changes, 1);
    inventory.put([["1", null]]);
    assert.deepEqual(inventory.state.rows, []);
  });
});

describe("audit records", () => {
  test("actions have names, and unknown ones are shown in words", () => {
    assert.equal(actionName("sandbox.extend"), "Extension");
    assert.equal(actionName("sandbox.heal_twice"), "Sandbox heal twice");
  });

  test("an actor has its role, and the broker has neither", () => {
    assert.equal(actorText({ actor: "ada", role: "operator" }), "ada (operator)");
    assert.equal(actorText({ actor: "ada", role: null }), "ada");
    assert.equal(actorText({ actor: null, role: null }), "broker");
  });

  test("changes are in words, and values that stay are left out", () => {
    const before = { status: "allocated", expires_at: 1_774_000_000, track_name: "dns" };
    assert.deepEqual(changeTexts({ before, after: { ...before, status: "pending_deletion", expires_at: 1_774_003_600 } }), [
      "status: allocated → pending deletion", "expiry: 2026-03-20 10:46:40 → 2026-03-20 11:46:40",
    ]);
    assert.deepEqual(changeTexts({ before: { track_name: "dns" }, after: { track_name: null } }), ["lab: dns → none"]);
    assert.deepEqual(changeTexts({ before: null, after: { name: "ci", labs: ["a"], force: false } }), [
      "name: ci", 'labs: ["a"]', "force: false",
    ]);
    assert.deepEqual(changeTexts({ before: null, after: null }), []);
  });

  test("a CSV file of records has the values before and after as JSON, and reasons are no formulas", () => {
    const record = {
      at: 1_774_000_000, actor: "ada", role: "operator", action: "sandbox.release", target: "7", outcome: "done",
      reason: "=1+1", before: { status: "allocated" }, after: null, request_id: "r-1", address: null,
    };
    const [, line] = toCsv(RECORD_COLUMNS, [record]).split("\r\n");
    assert.equal(line, '2026-03-20T09:46:40Z,ada,operator,sandbox.release,7,done,\'=1+1,"{""status"":""allocated""}",,r-1,');
  });
});

describe("roles", () => {
  test("a role includes those before it, and an unknown one includes none", () => {
    assert.ok(includesRole("admin", "operator") && includesRole("operator", "operator") && includesRole("viewer", "viewer"));
    assert.ok(!includesRole("viewer", "operator") && !includesRole("operator", "admin"));
    assert.ok(!includesRole("track", "viewer") && !includesRole("root", "viewer") && !includesRole("admin", "root"));
  });
});

describe("api", () => {
  /** Answers each request with the next of `answers`: `[status, body]`. Returns the requests. */
  function stub(...answers) {
    const sent = [];
    mock.method(globalThis, "fetch", async (url, { method, headers, body }) => {
      sent.push({ url, method, token: headers.authorization?.slice(7), body });
      const [status, answer] = answers.shift();
      return new Response(status === 204 ? null : JSON.stringify(answer), { status });
    });
    return sent;
  }
  const rejected = [401, { error: { code: "UNAUTHORIZED", message: "no" } }];
  const settle = () => new Promise((resolve) => setImmediate(resolve));

  test("a rejected GET is sent again with the next token, and other requests wait for it", async () => {
    const sent = stub(rejected, [200, { n: 1 }], [200, { n: 2 }]);
    let signIn;
    const signInAgain = mock.fn(() => new Promise((resolve) => (signIn = resolve)));
    const api = createApi({ base: "/v1", token: "old", signInAgain });
    const first = api.get("/a");
    await settle();
    const second = api.post("/b", { x: 1 });
    await settle();
    assert.equal(sent.length, 1);
    signIn("new");
    assert.deepEqual(await Promise.all([first, second]), [{ n: 1 }, { n: 2 }]);
    assert.equal(signInAgain.mock.callCount(), 1);
    assert.deepEqual(sent.map(({ token }) => token), ["old", "new", "new"]);
  });

  test("another method that is rejected fails, and is not sent again", async () => {
    const sent = stub(rejected);
    const signInAgain = mock.fn(async () => "new");
    const api = createApi({ base: "/v1", token: "old", signInAgain });
    await assert.rejects(api.post("/b", {}), ({ status }) => status === 401);
    assert.equal(signInAgain.mock.callCount(), 1);
    assert.equal(sent.length, 1);
  });

  test("requests that overlap ask for one token only, and fail at sign-out", async () => {
    stub(rejected, rejected);
    const signInAgain = mock.fn(() => new Promise(() => {}));
    const api = createApi({ base: "/v1", token: "old", signInAgain });
    const failed = Promise.allSettled([api.get("/a"), api.get("/b")]);
    await settle();
    api.close();
    for (const { reason } of await failed) assert.ok(reason instanceof ApiError);
    assert.equal(signInAgain.mock.callCount(), 1);
  });

  test("an answer without content is no error, a person without a token sends none, and 403 is reported", async () => {
    const sent = stub([204], [403, { error: { code: "FORBIDDEN", message: "no" } }]);
    const onForbidden = mock.fn();
    const api = createApi({ base: "/v1", token: null, onForbidden });
    assert.equal(await api.delete("/a"), null);
    await assert.rejects(api.put("/b", { x: 1 }), { code: "FORBIDDEN" });
    assert.equal(onForbidden.mock.callCount(), 1);
    assert.deepEqual(sent.map(({ token, body }) => [token, body]), [[undefined, undefined], [undefined, '{"x":1}']]);
  });
});

describe("local times", () => {
  test("a time is the same after its way through an input", () => {
    assert.equal(toLocalInput(1_774_000_020), "2026-03-20T10:47");
    assert.equal(toLocalInput(1_774_000_007), "2026-03-20T10:46:47");
    for (const at of [1_774_000_020, 1_774_000_007]) assert.equal(fromLocalInput(toLocalInput(at)), at);
  });

  test("no time is empty", () => {
    for (const none of [null, undefined, Number.NaN]) assert.equal(toLocalInput(none), "");
    for (const none of ["", "2026-03-20T"]) assert.equal(fromLocalInput(none), null);
  });
});

describe("audit", () => {
  const { addressOf, paramsOf, parseFilter } = auditFilter;
  const none = { from: null, to: null, actor: "", action: "", target: "", outcome: "" };

  test("a filter is the same after its way through the address", () => {
    const filter = { from: 1_774_000_000, to: 1_774_003_600, actor: "ada & co", action: "pause.set", target: "sandbox/7 7", outcome: "done" };
    const address = addressOf(filter);
    assert.match(address, /^#\/audit\?from=1774000000&/);
    assert.deepEqual(parseFilter(address.slice("#/audit".length)), filter);
    assert.equal(addressOf(none), "#/audit");
    assert.deepEqual(parseFilter(""), none);
    assert.deepEqual(parseFilter("?from=yesterday&color=red"), none);
    assert.deepEqual(Object.values(paramsOf(none)), Array(6).fill(null));
  });

  /** An API with these pages of records. */
  function pagesOf(...pages) {
    return { get: mock.fn(async (_, { cursor }) => {
      const at = Number(cursor ?? 0);
      return { records: pages[at], cursor: at + 1 < pages.length ? String(at + 1) : null };
    }) };
  }

  test("empty pages that have a cursor are skipped", async () => {
    const api = pagesOf([], [], ["a"], ["b"]);
    assert.deepEqual(await readPage(api, none), { records: ["a"], cursor: "3" });
    assert.deepEqual(await readPage(pagesOf([], []), none), { records: [], cursor: null });
    const long = pagesOf(...Array(50).fill([]));
    const { cursor } = await readPage(long, none);
    assert.ok(cursor !== null && long.get.mock.callCount() < 50, "the operator decides whether to go on");
  });

  test("an export has every record up to its limit, and can be cancelled", async () => {
    const options = { maxRecords: 3, onProgress() {}, isCancelled: () => false };
    assert.deepEqual(await readAll(pagesOf(["a"], [], ["b"]), none, options), { records: ["a", "b"], isComplete: true });
    assert.deepEqual(await readAll(pagesOf(["a", "b", "c"]), none, options), { records: ["a", "b", "c"], isComplete: true });
    assert.deepEqual(await readAll(pagesOf(["a", "b"], ["c", "d"]), none, options), { records: ["a", "b", "c"], isComplete: false });
    assert.equal(await readAll(pagesOf(["a"], ["b"]), none, { ...options, isCancelled: () => true }), null);
  });
});

describe("pauses", () => {
  test("a pause says who set it and when it ends", () => {
    const pause = { author: "ada", since: 1_774_000_000, until: null };
    assert.equal(pauseText(pause), "since 2026-03-20 10:46 by ada, until somebody ends it");
    assert.equal(pauseText({ ...pause, until: 1_774_003_600 }), "since 2026-03-20 10:46 by ada, until 2026-03-20 11:46");
  });
});

describe("tokens", () => {
  const now = 1_774_000_000;
  const token = { name: "ci", role: "track", created_at: 5, expires_at: null, revoked_at: null, revoked_by: null };

  test("a token is live until it expires or is revoked", () => {
    const { stateOf, isLive } = tokenText;
    const states = [{}, { expires_at: now + 86_400 * 30 }, { expires_at: now + 60 }, { expires_at: now }, { expires_at: now + 60, revoked_at: now }];
    assert.deepEqual(states.map((state) => stateOf({ ...token, ...state }, now)), ["live", "live", "expiring", "expired", "revoked"]);
    assert.deepEqual(states.map((state) => isLive({ ...token, ...state }, now)), [true, true, true, false, false]);
  });

  test("its state, bounds and last use are in words", () => {
    const { stateText, boundsText, lastUseText } = tokenText;
    assert.equal(stateText(token, now), "never expires");
    assert.equal(stateText({ ...token, expires_at: now + 7200 }, now), "expires in 2 h (2026-03-20 12:46)");
    assert.equal(stateText({ ...token, expires_at: now - 60 }, now), "expired 1 min ago (2026-03-20 10:45)");
    assert.equal(stateText({ ...token, revoked_at: now, revoked_by: "ada" }, now), "revoked by ada at 2026-03-20 10:46");
    assert.equal(boundsText({ labs: ["a", "b"], name_prefixes: ["x-"] }), "labs a, b; prefixes x-");
    assert.equal(boundsText({}), "everything");
    assert.equal(lastUseText({ last_used_at: null }, now), "never");
    assert.equal(lastUseText({ last_used_at: now - 7200 }, now), "2 h ago or later");
  });

  test("live tokens come first, then the newest", () => {
    const tokens = [{ ...token, name: "gone", revoked_at: 9, created_at: 9 }, { ...token, name: "old" }, { ...token, name: "new", created_at: 7 }];
    assert.deepEqual(tokenText.sortTokens(tokens, now).map(({ name }) => name), ["new", "old", "gone"]);
  });

  test("bounds are lines that are not empty", () => {
    assert.deepEqual(tokenText.linesOf(" a \n\n b c\n"), ["a", "b c"]);
  });
});
