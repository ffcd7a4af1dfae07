// Loads all sandboxes, or those of one status, page by page from the API.

import { withRetries } from "../lib/retry.js";

const FIRST_PAGE_SIZE = 100; // Small, so that the first rows appear quickly.
const PAGE_SIZE = 1000;
const PUBLISH_INTERVAL_MS = 500; // Sorting 100,000 rows after every page would block the browser.

/**
 * `onChange` is called with `{rows, unreadable, loaded, isLoading, isComplete, loadedAt}` whenever one of them changes. The first
 * load publishes its rows as they arrive; a later one replaces them when it is complete.
 */
export function createInventory({ api, params = {}, now, onChange }) {
  const state = { rows: [], unreadable: [], loaded: 0, isLoading: false, isComplete: false, loadedAt: null };
  const written = new Map(); // The answers to writes during a load, whose pages may be older: rows by id, null for gone.
  let publishedAt = 0;

  function publish(byId) {
    for (const [id, row] of written) {
      if (row === null) byId.delete(id);
      else if (!(byId.get(id)?.updated_at > row.updated_at)) byId.set(id, row);
    }
    state.rows = [...byId.values()];
    publishedAt = performance.now();
  }

  /** Puts newer rows, from the answers to other requests, in the place of those in the table; `null` removes one. */
  function put(rowsById) {
    const byId = new Map(state.rows.map((row) => [row.sandbox_id, row]));
    let isChanged = false;
    for (const [id, row] of rowsById) {
      if (state.isLoading) written.set(id, row);
      isChanged ||= row === null ? byId.has(id) : JSON.stringify(byId.get(id)) !== JSON.stringify(row);
      if (row === null) byId.delete(id);
      else byId.set(id, row);
    }
    if (!isChanged) return;
    state.rows = [...byId.values()];
    onChange(state);
  }

  async function load() {
    state.isLoading = true;
    state.loaded = 0;
    written.clear();
    onChange(state);
    try {
      await loadPages();
    } finally {
      state.isLoading = false;
      onChange(state);
    }
  }

  async function loadPages() {
    const byId = new Map(); // A sandbox whose status changes during the load may occur on two pages.
    const unreadable = [];
    let cursor = null;
    do {
      const limit = byId.size === 0 ? FIRST_PAGE_SIZE : PAGE_SIZE;
      const page = await withRetries(() => api.get("/admin/sandboxes", { ...params, limit, cursor }));
      for (const row of page.sandboxes) byId.set(row.sandbox_id, row);
      unreadable.push(...(page.unreadable ?? [])); // A broker of an older version, during a deployment, has none.
      cursor = page.cursor;
      state.loaded = byId.size;
      const isFirst = state.rows.length === 0;
      const isDue = performance.now() - publishedAt >= PUBLISH_INTERVAL_MS;
      // The rows of a failed first load stay until this load has more.
      if (!state.isComplete && byId.size > state.rows.length && (isFirst || isDue)) publish(byId);
      onChange(state);
    } while (cursor);
    publish(byId);
    state.unreadable = unreadable;
    state.isComplete = true;
    state.loadedAt = now();
  }

  return { load, put, state };
}
