// Everything that is known of one sandbox, as long as the dialog is open.

import { showDetails } from "../lib/dialogs.js";
import { h, setText } from "../lib/dom.js";
import { FIELDS } from "./fields.js";
import { relative, statusName } from "../lib/format.js";

/** Returns how to tell the dialog of a newer state: a row, or `null` when the sandbox has left the pool. */
export function showSandbox(row, now) {
  const values = FIELDS.map(() => h("dd"));
  const news = h("p", { class: "fault", role: "status" });
  const fields = h("dl", { class: "fields" }, FIELDS.map((field, at) => [h("dt", {}, field.label), values[at]]));

  function show(state) {
    setText(news, state ? "" : "The pool does not have this sandbox any more. This is what was last known of it.");
    if (!state) return;
    FIELDS.forEach((field, at) => {
      const text = detailText(field, state, now());
      values[at].className = text ? "" : "muted";
      setText(values[at], text || "none");
    });
  }

  show(row);
  showDetails({ title: `Sandbox ${row.sandbox_id}`, body: [news, fields] });
  return show;
}

function detailText(field, row, now) {
  if (field.key === "status") return statusName(row.status);
  const text = field.exact(row);
  return text && field.isTime ? `${text} (${relative(row[field.key], now)})` : text;
}
