// The dialog with every field of one sandbox, kept up to date while it is open.

import { showDetails } from "../lib/dialogs.js";
import { errorLine, h, setText } from "../lib/dom.js";
import { relative } from "../lib/format.js";
import { FIELDS } from "./fields.js";

/** Opens the dialog. Returns a function that shows a newer row, or with `null` that the sandbox has left the pool. */
export function showSandbox(row, now) {
  const values = FIELDS.map(() => h("dd"));
  const notice = errorLine();
  const list = h("dl", { class: "fields" }, FIELDS.map((field, index) => [h("dt", {}, field.label), values[index]]));

  function update(current) {
    setText(notice, current ? "" : "This sandbox is no longer in the pool. The values are the last known ones.");
    if (!current) return;
    FIELDS.forEach((field, index) => {
      const text = detailText(field, current, now());
      values[index].className = text ? "" : "muted";
      setText(values[index], text || "none");
    });
  }

  update(row);
  showDetails({ title: `Sandbox ${row.sandbox_id}`, body: [notice, list] });
  return update;
}

function detailText(field, row, now) {
  const text = field.exact(row);
  return text && field.isTime ? `${text} (${relative(row[field.key], now)})` : text;
}
