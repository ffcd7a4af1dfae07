// The choice of visible table columns, kept in localStorage.

import { h, newId } from "../lib/dom.js";
import { COLUMNS, DEFAULT_COLUMN_KEYS } from "./fields.js";

const KEY = "broker-columns";

function savedKeys() {
  try {
    const keys = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(keys) ? keys : DEFAULT_COLUMN_KEYS;
  } catch {
    return DEFAULT_COLUMN_KEYS;
  }
}

/** Returns a check box for each column but the id, which is always visible because it opens the details. */
export function columnChoice(onChange) {
  const chosen = new Set(savedKeys()).add("sandbox_id");
  const boxes = COLUMNS.filter(({ key }) => key !== "sandbox_id").map(({ key, label }) => {
    const box = h("input", {
      type: "checkbox", id: newId("column"), checked: chosen.has(key), onchange: () => toggle(key, box.checked),
    });
    return h("span", { class: "check" }, box, h("label", { for: box.id }, label));
  });

  function toggle(key, isVisible) {
    if (isVisible) chosen.add(key);
    else chosen.delete(key);
    localStorage.setItem(KEY, JSON.stringify([...chosen]));
    onChange();
  }

  return {
    node: h("details", { class: "columns" }, h("summary", {}, "Columns"), h("div", { class: "checks" }, boxes)),
    columns: () => COLUMNS.filter(({ key }) => chosen.has(key)),
  };
}
