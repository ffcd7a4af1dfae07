// Which columns show. A matter of taste, not of secrets, so it outlives the session.

import { h, newId } from "../lib/dom.js";
import { COLUMNS, FIRST_COLUMNS } from "./fields.js";

const KEY = "broker-columns";

function kept() {
  try {
    const keys = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(keys) ? keys : FIRST_COLUMNS;
  } catch {
    return FIRST_COLUMNS;
  }
}

/** A list of check boxes; the id is always there, since it opens the details. */
export function columnChoice(onChange) {
  const chosen = new Set(kept());
  chosen.add("sandbox_id");
  const boxes = COLUMNS.filter(({ key }) => key !== "sandbox_id").map(({ key, label }) => {
    const box = h("input", { type: "checkbox", id: newId("column"), checked: chosen.has(key), onchange: () => toggle(key, box.checked) });
    return h("span", { class: "check" }, box, h("label", { for: box.id }, label));
  });

  function toggle(key, isOn) {
    if (isOn) chosen.add(key);
    else chosen.delete(key);
    localStorage.setItem(KEY, JSON.stringify([...chosen]));
    onChange();
  }

  return {
    node: h("details", { class: "columns" }, h("summary", {}, "Columns"), h("div", { class: "checks" }, boxes)),
    columns: () => COLUMNS.filter(({ key }) => chosen.has(key)),
  };
}
