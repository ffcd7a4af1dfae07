// Filters, sorts and pages the rows of the table, without the DOM.

const SEARCHED_KEYS = [
  "sandbox_id", "name", "allocated_to_track", "track_name", "external_id", "replaces", "replaced_by", "replacement_reason",
  "deletion_error", "check_error", "quarantine_reason", "quarantined_by", "niosxaas_cleanup_skipped", "niosxaas_cleanup_failed_reason",
];

/** The value of the lab filter for sandboxes without a lab. */
export const NO_LAB = "\u0000none";

// The searched text of each row in lower case: computed once for each row, not at every key press.
const searchTexts = new WeakMap();

function searchTextOf(row) {
  let text = searchTexts.get(row);
  if (text === undefined) {
    text = SEARCHED_KEYS.map((key) => row[key] ?? "").join("\n").toLowerCase();
    searchTexts.set(row, text);
  }
  return text;
}

/** Returns the rows with the given status, lab, beginning of the name and all words of the search. An empty filter matches every row. */
export function filterRows(rows, { status = "", lab = "", search = "", prefix = "" }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) =>
    (!status || row.status === status) &&
    (row.name ?? "").startsWith(prefix) &&
    (!lab || (row.track_name ?? NO_LAB) === lab) &&
    words.every((word) => searchTextOf(row).includes(word)));
}

/** Returns the rows sorted by a value. Missing values come last in either direction; equal ones are ordered by id. */
export function sortRows(rows, valueOf, isDescending = false) {
  const sign = isDescending ? -1 : 1;
  const keyed = rows.map((row) => ({ row, value: comparable(valueOf(row)), id: idOrder(row.sandbox_id) }));
  keyed.sort((a, b) => compareValues(a.value, b.value, sign) || compare(a.id, b.id));
  return keyed.map(({ row }) => row);
}

function comparable(value) {
  if (value === "" || value === undefined) return null;
  return typeof value === "string" ? value.toLowerCase() : value;
}

function compareValues(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * compare(a, b);
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/** Returns a sort key for an id, which orders ids of digits as numbers. */
export const idOrder = (id) => (/^\d+$/.test(id) ? id.padStart(24, "0") : id);

/** Returns one page, counted from 0. A number beyond the last page means the last one. */
export function pageOf(rows, page, size) {
  const pages = Math.max(1, Math.ceil(rows.length / size));
  const index = Math.min(Math.max(page, 0), pages - 1);
  return { page: index, pages, rows: rows.slice(index * size, (index + 1) * size) };
}

/** Returns the sorted labs of the rows, and whether some row has none. */
export function labsOf(rows) {
  const labs = new Set();
  let someWithout = false;
  for (const { track_name: lab } of rows) {
    if (lab === null || lab === undefined) someWithout = true;
    else labs.add(lab);
  }
  return { labs: [...labs].sort(), someWithout };
}

/**
 * Returns a function that sorts and filters rows, and caches both results: a change of the filter does not sort again,
 * and a change of the page does neither.
 */
export function createSelection() {
  let sorted = {};
  let filtered = {};
  return function select(rows, { column, isDescending, filter }) {
    if (sorted.rows !== rows || sorted.column !== column || sorted.isDescending !== isDescending) {
      sorted = { rows, column, isDescending, result: sortRows(rows, column.value, isDescending) };
    }
    const key = JSON.stringify(filter);
    if (filtered.rows !== sorted.result || filtered.key !== key) {
      filtered = { rows: sorted.result, key, result: filterRows(sorted.result, filter) };
    }
    return filtered.result;
  };
}
