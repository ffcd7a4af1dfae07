// Renders the rows of the current page in place, so that a reload keeps the focus and a text selection.

import { h, setText } from "../lib/dom.js";

/**
 * Returns a function that renders rows. `onOpen(row)` is called by the button with the id. `onCheck(row, event)` is called
 * by the check box of a row; without `isChecked(id)` there are none.
 */
export function createTableBody(tbody, { onOpen, onCheck }) {
  let lines = new Map(); // The rendered rows, by sandbox id.
  let columnKeys = "";

  return function render(rows, columns, isChecked = null) {
    const newColumnKeys = [isChecked !== null, ...columns.map(({ key }) => key)].join();
    if (newColumnKeys !== columnKeys) {
      tbody.replaceChildren();
      lines = new Map();
      columnKeys = newColumnKeys;
    }
    const newLines = new Map(rows.map(({ sandbox_id: id }) => [id, lines.get(id) ?? createLine(columns, isChecked, { onOpen, onCheck })]));
    for (const [id, line] of lines) if (!newLines.has(id)) line.node.remove();
    lines = newLines;
    rows.forEach((row, index) => {
      const line = lines.get(row.sandbox_id);
      line.update(row, isChecked?.(row.sandbox_id));
      if (tbody.children[index] !== line.node) tbody.insertBefore(line.node, tbody.children[index] ?? null);
    });
  };
}

function createLine(columns, isChecked, { onOpen, onCheck }) {
  let current = null;
  const box = isChecked && h("input", { type: "checkbox", onclick: (event) => onCheck(current, event) });
  const cells = columns.map((column) => createCell(column, () => onOpen(current)));
  return {
    node: h("tr", {}, box && h("td", { class: "select" }, box), cells.map(({ node }) => node)),
    update(row, checked) {
      if (box) box.checked = checked;
      if (row === current) return;
      current = row;
      box?.setAttribute("aria-label", `Select ${row.sandbox_id}`);
      for (const cell of cells) cell.update(row);
    },
  };
}

function createCell(column, open) {
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
        pill.className = `pill ${row.status}`;
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
      cell.title = text; // The cell cuts long texts off.
    },
  };
}
