// Comma-separated values (RFC 4180) that a spreadsheet opens without harm.

const BOM = "\uFEFF"; // Without it Excel takes the file for the code page of the machine.
// Many spreadsheets separate by semicolons or tabs, so a formula may begin after those too.
const FORMULA = /(^|[;\t\r\n])(?=[=+\-@\t\r])/g;
const SPECIAL = /[",\r\n]/;

/** One field. Text that a spreadsheet would calculate gets an apostrophe in front. */
export function csvField(value) {
  if (value === null || value === undefined) return "";
  const text = String(value);
  const safe = text.replace(FORMULA, "$1'");
  return SPECIAL.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** A whole file: `columns` have a `key` for the head and a `csv(row)` for the fields. */
export function toCsv(columns, rows) {
  const line = (fields) => `${fields.map(csvField).join(",")}\r\n`;
  const lines = rows.map((row) => line(columns.map((column) => column.csv(row))));
  return BOM + line(columns.map((column) => column.key)) + lines.join("");
}

/** Hands a text to the browser as a file to save. */
export function saveAs(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
