// Views by the hash of the address, so that the back button works.

import { closeDialogs } from "../lib/dialogs.js";
import { fill, h, setText } from "../lib/dom.js";

const DOCUMENT = "Sandbox Broker";

/** Shows the view that the hash names, the first one if it names none; `views` are by name. */
export function startRouter({ nav, title, slot, views }) {
  const names = Object.keys(views);
  const links = new Map(names.map((name) => [name, h("a", { href: `#/${name}` }, views[name].title)]));
  fill(nav, [...links.values()]);
  nav.hidden = false;
  let current = null;

  function route() {
    const wanted = location.hash.replace(/^#\//, "");
    const name = names.includes(wanted) ? wanted : names[0];
    if (views[name] === current) return;
    closeDialogs(); // They are about the view that goes.
    const isFirst = current === null;
    current?.hide();
    current = views[name];
    for (const [key, link] of links) {
      if (key === name) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    showTitle(title, current.title);
    fill(slot, current.node);
    current.show();
    scrollTo(0, 0);
    if (!isFirst) title.focus({ preventScroll: true }); // Tells a screen reader where it is.
  }

  addEventListener("hashchange", route);
  route();
  return {
    current: () => current,
    stop() {
      removeEventListener("hashchange", route);
      current.hide();
      fill(nav);
      nav.hidden = true;
      fill(slot);
    },
  };
}

/** The heading and the document's title. */
export function showTitle(element, text) {
  setText(element, text);
  document.title = `${text} – ${DOCUMENT}`;
}
