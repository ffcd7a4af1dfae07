// Creates DOM elements from data; strings always become text nodes, so nothing from the API can become HTML.

const FORBIDDEN = new Set(["style", "srcdoc", "innerHTML", "outerHTML"]);

/**
 * Creates an element. A property that begins with `on` is an event listener; `false`, `null` and `undefined` omit the
 * attribute or the child. Children may be nested arrays.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (FORBIDDEN.has(name)) throw new TypeError(`h() does not set ${name}`);
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name.startsWith("on")) throw new TypeError(`${name} takes a function`);
    else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** Replaces all children. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/** Writes a text only if it differs: a write makes screen readers repeat a live region, and clears a selection. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Makes a link lead to an address, or nowhere if there is none. */
export function setHref(link, address) {
  if (address) link.setAttribute("href", address);
  else link.removeAttribute("href");
}

/** Returns a region with its own scroll bar, which can be focused and so scrolled with the keyboard. */
export function scrollRegion(label, ...children) {
  return h("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, children);
}

/** Returns a card with a heading. */
export function section(title, ...children) {
  return h("section", { class: "card" }, h("h2", {}, title), children);
}

/** Returns a line for an error message, which takes no space while it is empty. */
export const errorLine = () => h("p", { class: "error", role: "status" });

/** Returns a table. Cells are strings or nodes; the first cell of each row is its header. */
export function table(caption, columnNames, rows) {
  return h("table", {},
    h("caption", { class: "hidden" }, caption),
    h("thead", {}, h("tr", {}, columnNames.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, index) =>
      index === 0 ? h("th", { scope: "row" }, cell) : h("td", {}, cell))))));
}

/** Returns a reason as text whose direction does not affect the text around it: people wrote it. */
export const reasonNode = (reason) => h("bdi", { class: "reason" }, reason);

/** Moves the focus to `element` if the one that had it is gone, such as the button of an action with its row. */
export function rescueFocus(element) {
  const { activeElement } = document;
  if (activeElement !== document.body && activeElement?.checkVisibility()) return;
  element.tabIndex = -1;
  element.focus();
}

let lastId = 0;

/** Returns an unused element id, for a label or a description to refer to. */
export const newId = (prefix) => `${prefix}-${++lastId}`;
