// Everything that is known of one sandbox.

import { showDetails } from "./dialogs.js";
import { h } from "./dom.js";
import { FIELDS } from "./fields.js";
import { relative, statusName } from "./format.js";

export function showSandbox(row, now) {
  showDetails({
    title: `Sandbox ${row.sandbox_id}`,
    body: h("dl", { class: "fields" }, FIELDS.map((field) => [
      h("dt", {}, field.label),
      h("dd", {}, detailText(field, row, now) || h("span", { class: "muted" }, "none")),
    ])),
  });
}

function detailText(field, row, now) {
  if (field.key === "status") return statusName(row.status);
  const text = field.exact(row);
  return text && field.isTime ? `${text} (${relative(row[field.key], now)})` : text;
}
