// Starts the page: sign in, or go on with the token of this tab.

import { startConsole } from "./shell/console.js";
import { fill, setText } from "./lib/dom.js";
import { showTitle } from "./shell/router.js";
import { session } from "./shell/session.js";
import { signInForm } from "./shell/sign-in.js";
import { startTheme } from "./shell/theme.js";

const base = document.documentElement.dataset.api;
const page = Object.fromEntries(
  ["main", "title", "view", "nav", "alerts", "freshness", "announcer", "theme", "sign-out", "foot"]
    .map((id) => [id, document.getElementById(id)]),
);
let stopConsole = null;

function signIn(message = null) {
  stopConsole?.();
  stopConsole = null;
  session.clear();
  page["sign-out"].hidden = true;
  showTitle(page.title, "Sign in");
  const form = signInForm({
    base,
    message,
    onSignedIn(token, overview) {
      session.keep(token);
      open(token, overview);
      page.title.focus();
    },
  });
  fill(page.view, form.node);
  form.focus();
}

function open(token, first = null) {
  page["sign-out"].hidden = false;
  stopConsole = startConsole({ base, token, first, page, onRefused });
}

function onRefused({ status }) {
  signIn(status === 403
    ? "The token is a track's now. The dashboard needs an admin's."
    : "The token is no longer valid. Sign in again.");
}

startTheme(page.theme);
setText(page.foot, `Times are in ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`);
page["sign-out"].addEventListener("click", () => signIn());
// A plain jump to #main would be taken for the address of a view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  page.main.focus();
});

const token = session.token();
if (token) open(token);
else signIn();
