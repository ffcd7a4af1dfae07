// Selects the view that the URL's hash names, so that links and the back button work.

import { closeDialogs } from "../lib/dialogs.js";
import { fill, h, setText } from "../lib/dom.js";

const APP_NAME = "Sandbox Broker";

/**
 * `views` are keyed by their name in the hash, such as `sandboxes` in `#/sandboxes?status=stale`. The first one is shown
 * if the hash names none. A view's `open(rest)`, if it has one, receives the rest of the hash, here `?status=stale`,
 * whenever the hash changes and after `show()`. A view that `isUnlisted` has no link.
 */
export function startRouter({ nav, title, slot, views }) {
  const names = Object.keys(views);
  const listed = names.filter((name) => !views[name].isUnlisted);
  const links = new Map(listed.map((name) => [name, h("a", { href: `#/${name}` }, views[name].title)]));
  fill(nav, [...links.values()]);
  nav.hidden = false;
  let current = null;

  function route() {
    const [, requested, rest] = /^#?\/?([^/?]*)(.*)$/.exec(location.hash);
    const name = names.includes(requested) ? requested : names[0];
    closeDialogs(); // They belong to the view, or the part of it, that is left.
    if (views[name] !== current) switchTo(name);
    current.open?.(name === requested ? rest : "");
  }

  function switchTo(name) {
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
    if (!isFirst) title.focus({ preventScroll: true }); // Makes a screen reader announce the new view.
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

/** Sets the heading and the document's title. */
export function showTitle(heading, text) {
  setText(heading, text);
  document.title = `${text} – ${APP_NAME}`;
}
