// The rows on the page. Lines and cells that stay the same are left alone, so that a reload loses neither the focus
// nor a selected text.

import { h, setText } from "../lib/dom.js";

/** `onOpen(row)` is called by the button in the first column. */
export function createTableBody(tbody, onOpen) {
  let lines = new Map();
  let shape = "";

  return function render(rows, columns) {
    const newShape = columns.map(({ key }) => key).join();
    if (newShape !== shape) {
      tbody.replaceChildren();
      lines = new Map();
      shape = newShape;
    }
    const kept = new Map(rows.map((row) => [row.sandbox_id, lines.get(row.sandbox_id) ?? newLine(columns, onOpen)]));
    for (const [id, line] of lines) if (!kept.has(id)) line.node.remove();
    lines = kept;
    rows.forEach((row, at) => {
      const line = kept.get(row.sandbox_id);
      line.update(row);
      if (tbody.children[at] !== line.node) tbody.insertBefore(line.node, tbody.children[at] ?? null);
    });
  };
}

function newLine(columns, onOpen) {
  let current = null;
  const cells = columns.map((column) => newCell(column, () => onOpen(current)));
  return {
    node: h("tr", {}, cells.map(({ node }) => node)),
    update(row) {
      if (row === current) return;
      current = row;
      for (const cell of cells) cell.update(row);
    },
  };
}

function newCell(column, open) {
  if (column.key === "sandbox_id") {
    const button = h("button", { type: "button", class: "link", onclick: open });
    return {
      node: h("th", { scope: "row" }, button),
      update: (row) => setText(button, row.sandbox_id),
    };
  }
  if (column.key === "status") {
    const pill = h("span");
    return {
      node: h("td", {}, pill),
      update(row) {
        pill.className = `pill status ${row.status}`;
        setText(pill, column.text(row));
      },
    };
  }
  const cell = h("td", { class: column.isFigure ? "figure-cell" : null });
  return {
    node: cell,
    update(row) {
      const text = column.text(row);
      setText(cell, text);
      cell.title = text; // Long ones are cut off.
    },
  };
}
