// Filtering, sorting and paging of sandboxes. No DOM here.

const SEARCHED = [
  "sandbox_id", "name", "allocated_to_track", "track_name", "external_id",
  "deletion_error", "niosxaas_cleanup_skipped", "niosxaas_cleanup_failed_reason",
];

/** The lab of those that have none. */
export const NO_LAB = "\u0000none";

// Lower case is made once for each sandbox, not at every key that is typed.
const haystacks = new WeakMap();

function haystackOf(row) {
  let text = haystacks.get(row);
  if (text === undefined) {
    text = SEARCHED.map((key) => row[key] ?? "").join("\n").toLowerCase();
    haystacks.set(row, text);
  }
  return text;
}

/** Those that have the status, the lab and every word of the search. An empty filter keeps all. */
export function filterRows(rows, { status = "", lab = "", search = "" }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) =>
    (!status || row.status === status) &&
    (!lab || (row.track_name ?? NO_LAB) === lab) &&
    words.every((word) => haystackOf(row).includes(word)));
}

/** Sorted by a value; what has none comes last either way, and equals keep the order of their ids. */
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

/** Ids of digits in the order of their numbers. */
export const idOrder = (id) => (/^\d+$/.test(id) ? id.padStart(24, "0") : id);

/** One page; a number beyond the last page means the last one. */
export function pageOf(rows, page, size) {
  const pages = Math.max(1, Math.ceil(rows.length / size));
  const at = Math.min(Math.max(page, 0), pages - 1);
  return { page: at, pages, rows: rows.slice(at * size, (at + 1) * size) };
}

/** The labs that occur, in order, and whether some sandbox has none. */
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
 * Sorts and filters, and does neither twice for the same question: typing in the search does not sort anew, and a
 * page turned costs nothing.
 */
export function createSelection() {
  let sortedFor = {};
  let filteredFor = {};
  return function select(rows, { column, isDescending, filter }) {
    if (sortedFor.rows !== rows || sortedFor.column !== column || sortedFor.isDescending !== isDescending) {
      sortedFor = { rows, column, isDescending, result: sortRows(rows, column.value, isDescending) };
    }
    const key = JSON.stringify(filter);
    if (filteredFor.rows !== sortedFor.result || filteredFor.key !== key) {
      filteredFor = { rows: sortedFor.result, key, result: filterRows(sortedFor.result, filter) };
    }
    return filteredFor.result;
  };
}
