// The parts of the dashboard that need no browser.
import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { describe, mock, test } from "node:test";

process.env.TZ = "Europe/Zurich";
// Node 20.19 or newer sees by itself that these are modules.
const load = (name) => import(new URL(`../../dashboard/${name}.js`, import.meta.url));
const { csvField, toCsv } = await load("lib/csv");
const { NO_LAB, createSelection, filterRows, labsOf, pageOf, sortRows } = await load("sandboxes/rows");
const { FIELDS, niosxaasOutcome } = await load("sandboxes/fields");
const format = await load("lib/format");
const { backOff, createPoll } = await load("lib/poll");
const { byLab, hourly, stacked, timeLeft, withGaps } = await load("overview/tallies");
const { countsText, notesOf, progressOf } = await load("jobs/run-text");

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

  test("nothing is calculated by a spreadsheet", () => {
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
  });

  test("a file has a byte order mark, a head and a line for each row", () => {
    const columns = [{ key: "a", csv: (row) => row.a }, { key: "b", csv: (row) => row.b }];
    assert.equal(toCsv(columns, [{ a: 1, b: "x,y" }, { a: null, b: "z" }]), '\uFEFFa,b\r\n1,"x,y"\r\n,z\r\n');
    assert.equal(toCsv(columns, []), "\uFEFFa,b\r\n");
  });

  test("times of a sandbox are ISO 8601, and never is empty", () => {
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

  test("filters go together", () => {
    assert.equal(ids(filterRows(rows, {})), "10 9 100");
    assert.equal(ids(filterRows(rows, { status: "stale" })), "10");
    assert.equal(ids(filterRows(rows, { lab: "dns" })), "9");
    assert.equal(ids(filterRows(rows, { lab: NO_LAB })), "10");
    assert.equal(ids(filterRows(rows, { lab: "dns", status: "stale" })), "");
  });

  test("a search ignores case, looks at callers and reasons, and wants every word", () => {
    assert.equal(ids(filterRows(rows, { search: "play-7" })), "9");
    assert.equal(ids(filterRows(rows, { search: " http gAmma " })), "100");
    assert.equal(ids(filterRows(rows, { search: "http beta" })), "");
    assert.equal(ids(filterRows(rows, { search: "null" })), "");
  });

  test("sorting ignores case, puts what is missing last, and leaves its input alone", () => {
    const before = ids(rows);
    assert.equal(ids(sortRows(rows, (row) => row.name)), "10 9 100");
    assert.equal(ids(sortRows(rows, (row) => row.name, true)), "100 9 10");
    assert.equal(ids(sortRows(rows, (row) => row.track_name)), "100 9 10");
    assert.equal(ids(sortRows(rows, (row) => row.track_name, true)), "9 100 10");
    assert.equal(ids(rows), before);
  });

  test("ids are in the order of their numbers, also among equals", () => {
    const id = FIELDS.find(({ key }) => key === "sandbox_id");
    assert.equal(ids(sortRows(rows, id.value)), "9 10 100");
    assert.equal(ids(sortRows(rows, id.value, true)), "100 10 9");
    assert.equal(ids(sortRows(rows, () => 1, true)), "9 10 100");
  });

  test("a page beyond the end is the last one", () => {
    const many = Array.from({ length: 101 }, (_, at) => at);
    assert.deepEqual(pageOf(many, 9, 50), { page: 2, pages: 3, rows: [100] });
    assert.deepEqual(pageOf(many, -1, 2).rows, [0, 1]);
    assert.deepEqual(pageOf([], 4, 50), { page: 0, pages: 1, rows: [] });
  });

  test("labs come once, in order", () => {
    assert.deepEqual(labsOf([...rows, ...rows]), { labs: ["cloud", "dns"], someWithout: true });
    assert.deepEqual(labsOf([]), { labs: [], someWithout: false });
  });

  test("nothing is sorted or filtered twice for the same question", () => {
    let asked = 0;
    const column = { value: (row) => (asked += 1, row.name) };
    const select = createSelection();
    const query = { column, isDescending: false, filter: { search: "a" } };
    const first = select(rows, query);
    assert.equal(select(rows, { ...query, filter: { search: "a" } }), first);
    assert.equal(ids(select(rows, { ...query, filter: { search: "gam" } })), "100");
    assert.equal(asked, rows.length);
    assert.equal(ids(select(rows, { ...query, isDescending: true })), "100 9 10");
    assert.equal(ids(select(rows.slice(1), query)), "9 100");
  });

  test("100,000 rows are sorted and searched in a moment", () => {
    const many = Array.from({ length: 100_000 }, (_, at) => ({ sandbox_id: String(at), name: `lab-${(at * 7919) % 100_000}` }));
    const started = performance.now();
    const sorted = sortRows(many, (row) => row.name);
    assert.equal(filterRows(sorted, { search: "lab-99999" }).length, 1);
    assert.ok(performance.now() - started < 3000);
  });

  test("the outcome of NIOSXaaS is the one that stands", () => {
    assert.equal(niosxaasOutcome({}), "");
    assert.equal(niosxaasOutcome({ niosxaas_cleanup_skipped: "none" }), "skipped");
    assert.equal(niosxaasOutcome({ niosxaas_cleanup_failed_reason: "x" }), "failed");
    assert.equal(niosxaasOutcome({ niosxaas_cleaned_at: 5, niosxaas_cleanup_failed_reason: "x" }), "cleaned");
  });
});

describe("format", () => {
  test("durations have two units at most", () => {
    const texts = [[-3, "0 s"], [8, "8 s"], [59.6, "1 min"], [725, "12 min"], [3600, "1 h"], [15_960, "4 h 26 min"], [172_800, "2 d"], [273_600, "3 d 4 h"]];
    for (const [seconds, text] of texts) assert.equal(format.duration(seconds), text);
  });

  test("distances say which way", () => {
    assert.equal(format.relative(100, 340), "4 min ago");
    assert.equal(format.relative(700, 340), "in 6 min");
    assert.equal(format.relative(340, 340.3), "now");
  });

  test("times are those of the time zone, and never is nothing", () => {
    assert.equal(format.dateTime(1_774_000_000), "2026-03-20 10:46");
    assert.equal(format.exactTime(1_774_000_007), "2026-03-20 10:46:47");
    assert.equal(format.clockTime(1_774_000_000), "10:46");
    assert.equal(format.isoTime(1_774_000_000), "2026-03-20T09:46:40Z");
    for (const never of [0, null, undefined]) {
      assert.equal(format.dateTime(never), "");
      assert.equal(format.exactTime(never), "");
      assert.equal(format.isoTime(never), "");
    }
  });

  test("numbers and words", () => {
    assert.equal(format.number(20_000), "20,000");
    assert.equal(format.sandboxes(1), "1 sandbox");
    assert.equal(format.sandboxes(1200), "1,200 sandboxes");
    assert.equal(format.statusName("pending_deletion"), "pending deletion");
    assert.equal(format.statusName("new_one"), "new_one");
  });
});

describe("poll", () => {
  function stage() {
    mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
    const page = Object.assign(new EventEmitter(), {
      hidden: false,
      addEventListener(name, listener) { this.on(name, listener); },
      removeEventListener(name, listener) { this.off(name, listener); },
      look(isHidden) {
        this.hidden = isHidden;
        this.emit("visibilitychange");
      },
    });
    return { page, settle: () => new Promise((resolve) => setImmediate(resolve)), pass: (ms) => mock.timers.tick(ms) };
  }
  const ended = (test) => async (context) => {
    try {
      await test(context);
    } finally {
      mock.timers.reset();
    }
  };

  test("waits twice as long after each failure, and as long as it is asked to", () => {
    assert.deepEqual([1, 2, 3, 10].map((failures) => backOff(failures, 10_000)), [10_000, 20_000, 40_000, 300_000]);
    assert.equal(backOff(1, 10_000, 30), 30_000);
    assert.equal(backOff(9, 10_000, 600), 600_000);
    assert.equal(backOff(1000, 2000), 300_000);
  });

  test("runs at once, then every so often, until it is stopped", ended(async () => {
    const { page, settle, pass } = stage();
    const run = mock.fn(async () => {});
    const poll = createPoll({ run, everyMs: 1000, page });
    poll.start();
    poll.start();
    assert.equal(run.mock.callCount(), 1);
    await settle();
    pass(999);
    assert.equal(run.mock.callCount(), 1);
    pass(1);
    await settle();
    assert.equal(run.mock.callCount(), 2);
    poll.stop();
    pass(5000);
    page.look(false);
    assert.equal(run.mock.callCount(), 2);
  }));

  test("never runs twice at once, but once more if asked meanwhile", ended(async () => {
    const { page, settle } = stage();
    const ends = [];
    const run = mock.fn(() => new Promise((resolve) => ends.push(resolve)));
    const poll = createPoll({ run, everyMs: 1000, page });
    poll.start();
    poll.refresh();
    poll.refresh();
    page.look(false);
    assert.equal(run.mock.callCount(), 1);
    ends[0]();
    await settle();
    assert.equal(run.mock.callCount(), 2);
    ends[1]();
    await settle();
    assert.equal(run.mock.callCount(), 2);
    poll.stop();
  }));

  test("rests while nobody looks, and runs at once when somebody does", ended(async () => {
    const { page, settle, pass } = stage();
    const run = mock.fn(async () => {});
    const poll = createPoll({ run, everyMs: 1000, page });
    page.hidden = true;
    poll.start();
    pass(10_000);
    assert.equal(run.mock.callCount(), 0);
    page.look(false);
    await settle();
    assert.equal(run.mock.callCount(), 1);
    page.look(true);
    pass(10_000);
    assert.equal(run.mock.callCount(), 1);
    page.look(false);
    assert.equal(run.mock.callCount(), 2);
    await settle();
    poll.stop();
  }));

  test("tells of failures, and leaves the broker alone for as long as it asks", ended(async () => {
    const { page, settle, pass } = stage();
    const run = mock.fn(async () => { throw Object.assign(new Error("busy"), { retryAfter: 30 }); });
    const onFailure = mock.fn();
    const poll = createPoll({ run, everyMs: 1000, onFailure, page });
    poll.start();
    await settle();
    assert.deepEqual(onFailure.mock.calls[0].arguments.slice(1), [30_000]);
    poll.refresh();
    page.look(false);
    pass(29_999);
    assert.equal(run.mock.callCount(), 1);
    pass(1);
    assert.equal(run.mock.callCount(), 2);
    poll.stop();
  }));

  test("a success ends the waiting", ended(async () => {
    const { page, settle, pass } = stage();
    let isWell = false;
    const run = mock.fn(async () => { if (!isWell) throw new Error("down"); });
    const poll = createPoll({ run, everyMs: 1000, page });
    poll.start();
    await settle();
    pass(1000);
    await settle();
    isWell = true;
    pass(1999);
    assert.equal(run.mock.callCount(), 2);
    pass(1);
    await settle();
    assert.equal(run.mock.callCount(), 3);
    pass(1000);
    assert.equal(run.mock.callCount(), 4);
    poll.stop();
  }));
});

describe("tallies", () => {
  test("labs beyond the first few are one sum", () => {
    const rows = ["a", "b", "b", "c", null, null, null].map((lab) => ({ track_name: lab }));
    assert.deepEqual(byLab(rows, 2), {
      top: [{ lab: null, count: 3 }, { lab: "b", count: 2 }],
      rest: { labs: 2, count: 2 },
    });
  });

  test("time left is counted by half hours, what is over separately", () => {
    const rows = [-5, 0, 1, 1799, 1800, 5400, 99_999, null].map((left) => ({ expires_at: left === null ? null : 1000 + left }));
    const { overdue, buckets, isLastOpen } = timeLeft(rows, 1000);
    assert.equal(overdue, 2);
    assert.deepEqual(buckets.slice(0, 4), [2, 1, 0, 1]);
    assert.equal(buckets[24], 1);
    assert.equal(isLastOpen, true);
    assert.deepEqual(timeLeft([], 0), { overdue: 0, buckets: [], isLastOpen: false });
  });

  test("a gap is a gap", () => {
    const samples = [{ at: 0, n: 1 }, { at: 300, n: 1 }, { at: 1200, n: 1 }];
    assert.deepEqual(withGaps(samples, 300).map(({ at, n }) => [at, n]), [[0, 1], [300, 1], [600, undefined], [1200, 1]]);
    assert.deepEqual(stacked([[0, 1], [1, null], [2, null]]), [[0, 1], [1, null], [3, null]]);
  });

  test("an hour has its last state and the sums of what happened", () => {
    const sample = (at, available, allocations) => ({ at, available, allocations, releases: 1 });
    assert.deepEqual(hourly([sample(0, 9, 1), sample(300, 8, 2), sample(3600, 7, 4)]), [
      { at: 3600, available: 7, allocations: 4, releases: 1 },
      { at: 0, available: 8, allocations: 3, releases: 2 },
    ]);
  });
});

describe("runs", () => {
  test("progress is what is done of what is due", () => {
    const running = (job, counts) => progressOf({ job, state: "running", counts });
    assert.equal(running("cleanup", { due: 10, deleted: 3, failed: 2 }), 0.5);
    assert.equal(running("auto-expire", { due: 4, expired: 1 }), 0.25);
    assert.equal(running("bulk-delete", { due: 4, deleted: 9 }), 1);
    assert.equal(running("sync", { due: 4 }), null);
    assert.equal(running("cleanup", { due: 0 }), null);
  });

  test("counts leave out zeros that are no news", () => {
    assert.equal(countsText({ counts: { status: "completed", due: 0, deleted: 0, failed: 0, duration_ms: 3 } }), "0 due, 0 deleted");
    assert.equal(countsText({ counts: { synced: 2000, inserted: 3, skipped: 0 } }), "2,000 listed by CSP, 3 inserted");
    assert.equal(countsText({ counts: {} }), "");
  });

  test("notes tell why, and of a run that is silent", () => {
    const notes = notesOf({ state: "running", updated_at: 0, error: "bad", counts: { stale_guard: "too many" } }, 60);
    assert.deepEqual(notes, [
      "bad", "Nothing was marked stale: too many", "Not heard of for 1 min: its broker may have died. The next run takes over.",
    ]);
    assert.deepEqual(notesOf({ state: "succeeded", updated_at: 0, error: null, counts: {} }, 60), []);
  });
});
