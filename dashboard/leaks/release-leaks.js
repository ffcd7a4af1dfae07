// Loads the allocations whose play is likely over, and releases them in requests of a bounded size. Without the DOM.

import { ApiError } from "../lib/api.js";
import { withRetries } from "../lib/retry.js";
import { whileRateLimited } from "../sandboxes/perform.js";
import { rowOf } from "./leak-text.js";

const PAGE_SIZE = 1000;
/** The number of allocations in a request: small, so that the progress of a release is visible. */
const BATCH = 50;

/** Returns all leaks as rows, the oldest allocation first, and the labs with a history: `{rows, labs}`. */
export async function loadLeaks(api) {
  const rows = new Map(); // By id.
  let labs = [];
  let cursor = null;
  do {
    const page = await withRetries(() => api.get("/admin/leaks", { limit: PAGE_SIZE, cursor }));
    for (const leak of page.leaks) rows.set(leak.sandbox_id, rowOf(leak));
    if (cursor === null) labs = page.labs;
    cursor = page.cursor;
  } while (cursor);
  return { rows: [...rows.values()], labs };
}

/** Returns a sender for `performOnAll` that releases rows, one batch after another. */
export function releaseInBatches(api) {
  return async (rows, { reason }, { onSent, onResult, isStopped }) => {
    for (let begin = 0; begin < rows.length && !isStopped(); begin += BATCH) {
      const batch = rows.slice(begin, begin + BATCH);
      batch.forEach(onSent);
      const results = await releaseBatch(api, reason, batch);
      batch.forEach((row, index) => onResult(row, results[index]));
    }
  };
}

/** Returns the result of each row, as `perform` does. A failed request fails every row of the batch. */
async function releaseBatch(api, reason, rows) {
  const allocations = rows.map(({ sandbox_id, allocated_at, expires_at }) => ({ sandbox_id, allocated_at, expires_at }));
  try {
    const { results } = await whileRateLimited(() => api.post("/admin/leaks/release", { reason, allocations }));
    return rows.map((row, index) => resultOf(row, results[index]));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return rows.map(() => ({ error }));
  }
}

function resultOf(row, { outcome, code, message }) {
  switch (outcome) {
    case "released": return { row: { ...row, status: "pending_deletion" } };
    case "not_attempted": return { error: { code: "NOT_ATTEMPTED", message: "The database was too slow. Release it again.", isRefusal: false } };
    default: return { error: { code, message, isRefusal: outcome === "refused" } };
  }
}
