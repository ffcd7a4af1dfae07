// Reads the records that match a filter page by page, without the DOM. A page may be empty and still have a cursor: the
// broker reads a bounded part of the days for each.

import { withRetries } from "../lib/retry.js";
import { paramsOf } from "./filter.js";

const PAGE_SIZE = 100;
const EXPORT_PAGE_SIZE = 1000;
const MAX_EMPTY_PAGES = 20;

/**
 * Returns `{records, cursor}` from a cursor on: the next page that has records, or an empty one if there are none left or
 * if too many pages in a row are empty.
 */
export async function readPage(api, filter, cursor = null) {
  let page;
  for (let pages = 0; pages < MAX_EMPTY_PAGES; pages += 1) {
    page = await withRetries(() => api.get("/admin/audit", { ...paramsOf(filter), limit: PAGE_SIZE, cursor }));
    cursor = page.cursor;
    if (page.records.length > 0 || !cursor) break;
  }
  return page;
}

/**
 * Returns `{records, isComplete}`: everything that matches, up to `maxRecords`. `onProgress(count)` is called after each
 * page. Returns null once `isCancelled()`.
 */
export async function readAll(api, filter, { maxRecords, onProgress, isCancelled }) {
  const records = [];
  let cursor = null;
  do {
    const page = await withRetries(() => api.get("/admin/audit", { ...paramsOf(filter), limit: EXPORT_PAGE_SIZE, cursor }));
    if (isCancelled()) return null;
    records.push(...page.records);
    cursor = page.cursor;
    onProgress(records.length);
  } while (cursor && records.length < maxRecords);
  return { records: records.slice(0, maxRecords), isComplete: !cursor && records.length <= maxRecords };
}
