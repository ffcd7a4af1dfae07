// Elements from data. Text becomes text nodes, and there is no way to pass markup, so nothing that the API says can
// become HTML.

const FORBIDDEN = new Set(["style", "srcdoc", "innerHTML", "outerHTML"]);

/**
 * Makes an element. A property that begins with `on` is a listener, `false` and `null` leave an attribute out, and
 * every child that is no node becomes text.
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
  return element;
}

/** Writes a text only if it differs, so that live regions and selections are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A region that scrolls by itself, and by keyboard too. */
export function scrollRegion(label, ...children) {
  return h("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, children);
}

/** A card with a heading. */
export function section(title, ...children) {
  return h("section", { class: "card" }, h("h2", {}, title), children);
}

/** A table of texts and nodes. */
export function table(caption, heads, rows) {
  return h("table", {},
    h("caption", { class: "hidden" }, caption),
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, at) =>
      at === 0 ? h("th", { scope: "row" }, cell) : h("td", {}, cell))))));
}

let ids = 0;

/** An id for a label or a description. */
export const newId = (prefix) => `${prefix}-${++ids}`;
