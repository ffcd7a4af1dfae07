// All sandboxes, or those of one status, loaded page after page.

import { ApiError } from "../lib/api.js";

const FIRST_PAGE = 100; // Little, so that something shows at once.
const PAGE = 1000;
const PUBLISH_MS = 500; // Sorting 100,000 rows at every page would keep the browser from anything else.
const ATTEMPTS = 3;

/**
 * `onChange` hears of progress and new rows: `{rows, loaded, isLoading, isComplete, loadedAt}`. The first
 * load shows its rows as they come; a later one replaces them when it has all.
 */
export function createInventory({ api, params = {}, now, onChange }) {
  const state = { rows: [], loaded: 0, isLoading: false, isComplete: false, loadedAt: null };
  let publishedAt = 0;

  function publish(rows) {
    state.rows = rows;
    publishedAt = performance.now();
  }

  async function load() {
    state.isLoading = true;
    state.loaded = 0;
    onChange(state);
    try {
      await loadPages();
    } finally {
      state.isLoading = false;
      onChange(state);
    }
  }

  async function loadPages() {
    const gathered = new Map(); // By id: a sandbox that moves while we read may come twice.
    let cursor = null;
    do {
      const limit = gathered.size === 0 ? FIRST_PAGE : PAGE;
      const page = await patiently(() => api.get("/admin/sandboxes", { ...params, limit, cursor }));
      for (const row of page.sandboxes) gathered.set(row.sandbox_id, row);
      cursor = page.cursor;
      state.loaded = gathered.size;
      const isFirst = state.rows.length === 0;
      const isDue = performance.now() - publishedAt >= PUBLISH_MS;
      // After a load that broke off, the part that there is stays until this one has more.
      if (!state.isComplete && gathered.size > state.rows.length && (isFirst || isDue)) publish([...gathered.values()]);
      onChange(state);
    } while (cursor);
    publish([...gathered.values()]);
    state.isComplete = true;
    state.loadedAt = now();
  }

  return { load, state };
}

/** One page that fails is asked for again, so that a whole load is not lost by it. */
async function patiently(request) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await request();
    } catch (error) {
      const mayPass = error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status >= 500);
      if (!mayPass || attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, (error.retryAfter ?? attempt) * 1000));
    }
  }
}
