// Writes a CSV file (RFC 4180) that is safe to open in a spreadsheet, and offers it as a download.

const BOM = "\uFEFF"; // Without it Excel reads the file in the machine's code page.
// Many spreadsheets separate by semicolons or tabs, so a formula may begin after those too. Some read the full-width and
// the small forms of the characters (U+FF1D, U+FE66, …) as the characters themselves.
const FORMULA = /(^|[;\t\r\n])(?=[=+\-@\t\r\uFF1D\uFF0B\uFF0D\uFF20\uFE66\uFE62\uFE63\uFE6B\u2212])/g;
const SPECIAL = /[",\r\n]/;

/** Returns one field. An apostrophe is put before text that a spreadsheet would evaluate as a formula. */
export function csvField(value) {
  if (value === null || value === undefined) return "";
  const text = String(value);
  const safe = text.replace(FORMULA, "$1'");
  return SPECIAL.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Returns a whole file. A column's `key` is its header; its `csv(row)` returns the value of a field. */
export function toCsv(columns, rows) {
  const line = (fields) => `${fields.map(csvField).join(",")}\r\n`;
  const lines = rows.map((row) => line(columns.map((column) => column.csv(row))));
  return BOM + line(columns.map((column) => column.key)) + lines.join("");
}

/** Offers a CSV text as a download. */
export function saveCsv(fileName, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: fileName });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
