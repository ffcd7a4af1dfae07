// Tests the modules of dashboard/leaks that do not need a browser.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

process.env.TZ = "Europe/Zurich";
const load = (name) => import(new URL(`../../dashboard/${name}.js`, import.meta.url));
const { heldText, labCells, labOptions, ofLab, rowOf, summaryText } = await load("leaks/leak-text");
const { loadLeaks, releaseInBatches } = await load("leaks/release-leaks");
const { ApiError } = await load("lib/api");

const leak = (id, lab = "dns-101") => ({
  sandbox_id: String(id), name: `lab-${id}`, caller: `play-${id}`, lab, allocated_at: 1_795_000_000, extended_at: null,
  expires_at: 1_795_014_400, held_sec: 9000, usual_sec: 3300, basis: "history",
});

describe("texts", () => {
  test("the time held is compared with the usual one, or with the end", () => {
    assert.equal(heldText(leak(1)), "2 h 30 min, usually 55 min");
    assert.equal(heldText({ ...leak(1), held_sec: 15_000, usual_sec: 14_400, basis: "end" }), "4 h 10 min, was to end after 4 h");
  });

  test("labs are offered with their counts, those with the most first", () => {
    const rows = [leak(1, "b"), leak(2, "a"), leak(3, null), leak(4, "b")].map(rowOf);
    const options = labOptions(rows);
    assert.deepEqual(options.map(({ label }) => label), ["b (2)", "(no lab) (1)", "a (1)"]);
    assert.deepEqual(ofLab(rows, options[1].value), [rows[2]]);
    assert.deepEqual(ofLab(rows, ""), rows);
    assert.equal(summaryText(rows), "4 sandboxes of 3 labs: held for longer than usual.");
    assert.match(summaryText([]), /^No sandbox/);
  });

  test("a lab with too few plays has no usual duration", () => {
    const of = (usual, suspected) => labCells({ lab: "a", durations: 9, usual_sec: usual, suspected_after_sec: suspected });
    assert.deepEqual(of(null, null), ["a", "9", "not known yet", "after its end"]);
    assert.deepEqual(of(3600, 5400), ["a", "9", "1 h", "after 1 h 30 min"]);
  });
});

test("leaks are loaded page by page, each once, with the labs of the first page", async () => {
  const pages = [
    { leaks: [leak(1), leak(2)], labs: [{ lab: "dns-101" }], cursor: "one" },
    { leaks: [], labs: [], cursor: "two" },
    { leaks: [leak(2), leak(3)], labs: [], cursor: null },
  ];
  const cursors = [];
  const api = { get: async (_, { cursor }) => { cursors.push(cursor); return pages[cursors.length - 1]; } };
  const { rows, labs } = await loadLeaks(api);
  assert.deepEqual(cursors, [null, "one", "two"]);
  assert.deepEqual(rows.map(({ sandbox_id: id }) => id), ["1", "2", "3"]);
  assert.deepEqual([rows[0].status, rows[0].allocated_to_track, rows[0].track_name], ["allocated", "play-1", "dns-101"]);
  assert.deepEqual(labs, [{ lab: "dns-101" }]);
});

describe("release", () => {
  const rows = Array.from({ length: 120 }, (_, id) => rowOf(leak(id)));

  /** Releases all rows, and returns the sizes of the requests and the results by id. `answer(body, request)` answers each. */
  async function release(answer, isStopped = () => false) {
    const [sizes, results] = [[], new Map()];
    const api = {
      async post(path, body) {
        assert.equal(path, "/admin/leaks/release");
        sizes.push(body.allocations.length);
        return answer(body, sizes.length);
      },
    };
    const sent = [];
    await releaseInBatches(api)(rows, { reason: "over" }, {
      onSent: (row) => sent.push(row.sandbox_id),
      onResult: (row, result) => results.set(row.sandbox_id, result),
      isStopped,
    });
    assert.deepEqual(sent, [...results.keys()]);
    return { sizes, results };
  }

  const all = (outcome, more = {}) => ({ allocations }) => ({ results: allocations.map(() => ({ outcome, ...more })) });

  test("requests are of a bounded size, and name the listed allocations", async () => {
    const { sizes, results } = await release((body) => {
      assert.equal(body.reason, "over");
      assert.deepEqual(Object.keys(body.allocations[0]), ["sandbox_id", "allocated_at", "expires_at"]);
      return all("released")(body);
    });
    assert.deepEqual(sizes, [50, 50, 20]);
    assert.equal(results.size, 120);
    assert.equal(results.get("119").row.status, "pending_deletion");
  });

  test("each row has its own outcome", async () => {
    const refusal = { code: "ALLOCATION_CHANGED", message: "Another one." };
    const { results } = await release(all("refused", refusal));
    assert.deepEqual(results.get("0"), { error: { ...refusal, isRefusal: true } });
    const failed = await release(all("failed", { code: "STORE_UNAVAILABLE", message: "Repeat." }));
    assert.equal(failed.results.get("0").error.isRefusal, false);
    const late = await release(all("not_attempted"));
    assert.equal(late.results.get("0").error.code, "NOT_ATTEMPTED");
  });

  test("a failed request fails its rows and no others, and a limited one is repeated", async () => {
    const { sizes, results } = await release((body, request) => {
      if (request === 1) throw new ApiError("limited", { status: 429, retryAfter: 0.001 });
      if (request === 3) throw new ApiError("gone");
      return all("released")(body);
    });
    assert.deepEqual(sizes, [50, 50, 50, 20]);
    const failed = [...results].filter(([, { error }]) => error).map(([id]) => Number(id));
    assert.deepEqual([failed.length, failed[0], failed.at(-1)], [50, 50, 99]);
  });

  test("no request is sent once it is stopped", async () => {
    let requests = 0;
    const { sizes } = await release((body) => { requests += 1; return all("released")(body); }, () => requests > 0);
    assert.deepEqual(sizes, [50]);
  });
});
