// Renders the rows of the current page in place, so that a reload keeps the focus and a text selection.

import { h, setHref, setText } from "../lib/dom.js";

/**
 * Returns `{render, tick}`: `tick` shows the passing of time in the rendered rows. `time()` returns what columns that are
 * live depend on. `onOpen(row)` is called by the button with the id. `onCheck(row, event)` is called by the check box of a
 * row; without `isChecked(id)` there are none. A column may have a `createCell()` of its own, which returns
 * `{node, update(row)}`.
 */
export function createTableBody(tbody, { time, onOpen, onCheck }) {
  let lines = new Map(); // The rendered rows, by sandbox id.
  let columnKeys = "";

  function render(rows, columns, isChecked = null) {
    const newColumnKeys = [isChecked !== null, ...columns.map(({ key }) => key)].join();
    if (newColumnKeys !== columnKeys) {
      tbody.replaceChildren();
      lines = new Map();
      columnKeys = newColumnKeys;
    }
    const newLines = new Map(rows.map(({ sandbox_id: id }) => [id, lines.get(id) ?? createLine(columns, isChecked, { time, onOpen, onCheck })]));
    for (const [id, line] of lines) if (!newLines.has(id)) line.node.remove();
    lines = newLines;
    rows.forEach((row, index) => {
      const line = lines.get(row.sandbox_id);
      line.update(row, isChecked?.(row.sandbox_id));
      if (tbody.children[index] !== line.node) tbody.insertBefore(line.node, tbody.children[index] ?? null);
    });
  }

  function tick() {
    for (const line of lines.values()) line.tick();
  }

  return { render, tick };
}

function createLine(columns, isChecked, { time, onOpen, onCheck }) {
  let current = null;
  const box = isChecked && h("input", { type: "checkbox", onclick: (event) => onCheck(current, event) });
  const cells = columns.map((column) => createCell(column, { time, open: () => onOpen(current) }));
  const liveCells = cells.filter((_, index) => columns[index].isLive);
  return {
    node: h("tr", {}, box && h("td", { class: "select" }, box), cells.map(({ node }) => node)),
    update(row, checked) {
      if (box) box.checked = checked;
      if (row === current) return;
      current = row;
      box?.setAttribute("aria-label", `Select ${row.sandbox_id}`);
      for (const cell of cells) cell.update(row);
    },
    tick() {
      for (const cell of liveCells) cell.update(current);
    },
  };
}

function createCell(column, { time, open }) {
  if (column.createCell) return column.createCell();
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
  const link = column.href && h("a");
  const cell = h("td", { class: column.isFigure ? "figure-cell" : null }, link);
  return {
    node: cell,
    update(row) {
      const text = column.text(row, time());
      setText(link ?? cell, text);
      if (link) setHref(link, column.href(row));
      cell.title = column.title?.(row) ?? text; // The cell cuts long texts off.
    },
  };
}
