// Starts the dashboard: shows the sign-in form, or the console if this tab already has a token.

import { fill, setText } from "./lib/dom.js";
import { startConsole } from "./shell/console.js";
import { showTitle } from "./shell/router.js";
import { session } from "./shell/session.js";
import { signInForm } from "./shell/sign-in.js";
import { startTheme } from "./shell/theme.js";

const base = document.documentElement.dataset.api; // The broker writes its API path, relative to the page, into index.html.
const page = Object.fromEntries(
  ["main", "title", "view", "nav", "alerts", "freshness", "announcer", "theme", "sign-out", "foot"]
    .map((id) => [id, document.getElementById(id)]),
);
let stopConsole = null;

function showSignIn(message = null) {
  stopConsole?.();
  stopConsole = null;
  session.clear();
  page["sign-out"].hidden = true;
  showTitle(page.title, "Sign in");
  const form = signInForm({
    base,
    message,
    onSignedIn(token, overview) {
      session.save(token);
      openConsole(token, overview);
      page.title.focus();
    },
  });
  fill(page.view, form.node);
  form.focus();
}

function openConsole(token, firstOverview = null) {
  page["sign-out"].hidden = false;
  stopConsole = startConsole({ base, token, firstOverview, page, onTokenRejected });
}

function onTokenRejected({ status }) {
  showSignIn(status === 403
    ? "The token is now a track token. The dashboard needs an admin token."
    : "The token is no longer valid. Sign in again.");
}

startTheme(page.theme);
setText(page.foot, `Times are in ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`);
page["sign-out"].addEventListener("click", () => showSignIn());
// Following the link would put #main into the address, which the router would read as the name of a view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  page.main.focus();
});

const token = session.token();
if (token) openConsole(token);
else showSignIn();
