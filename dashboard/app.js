// Starts the dashboard: shows the console to a person with a session, and the sign-in form to others.

import { ApiError } from "./lib/api.js";
import { closeDialogs, confirm } from "./lib/dialogs.js";
import { fill, h, setText } from "./lib/dom.js";
import { exactTime } from "./lib/format.js";
import { startConsole } from "./shell/console.js";
import { showTitle } from "./shell/router.js";
import { fetchSession, isSamePerson, savedToken } from "./shell/session.js";
import { signInDialog, signInError, signInForm } from "./shell/sign-in.js";
import { startTheme } from "./shell/theme.js";

const base = document.documentElement.dataset.api; // The broker writes its API path, relative to the page, into index.html.
const page = Object.fromEntries(
  ["main", "title", "view", "nav", "pauses", "alerts", "freshness", "announcer", "theme", "who", "sign-out", "foot"]
    .map((id) => [id, document.getElementById(id)]),
);
let session = null;
let stopConsole = null;
let drafts = {}; // Texts that the person has not sent yet, by the name of their view.

function closeConsole() {
  closeDialogs({ all: true }); // Of this person only: one of them may show a secret.
  stopConsole?.();
  stopConsole = null;
  session = null;
}

/** Shows the sign-in page, and forgets everything else. */
function showSignIn({ message = null, notice = null } = {}) {
  closeConsole();
  drafts = {};
  savedToken.clear();
  page.who.hidden = page["sign-out"].hidden = true;
  showTitle(page.title, "Sign in");
  const form = signInForm({
    base,
    message,
    notice,
    onSignedIn(next) {
      openConsole(next);
      page.title.focus();
    },
  });
  form.node.classList.add("card");
  fill(page.view, form.node);
  form.focus();
}

function openConsole(next, { message = null } = {}) {
  if (session?.name !== next.name) drafts = {};
  closeConsole();
  session = next;
  showSession();
  const { stop, announce } = startConsole({ base, session, drafts, page, signInAgain, onForbidden: checkRole });
  stopConsole = stop;
  if (message) announce(message);
}

/** Shows who is signed in, and keeps the token for a reload of the page. */
function showSession() {
  const { token, name, role, isByLoadBalancer, expiresAt } = session;
  if (token === null) savedToken.clear();
  else savedToken.save(token);
  fill(page.who, h("bdi", {}, name), ` (${role})`);
  page.who.title = isByLoadBalancer
    ? "Signed in by the load balancer"
    : `Signed in with a token${expiresAt ? ` that expires at ${exactTime(expiresAt)}` : ""}`;
  page.who.hidden = page["sign-out"].hidden = false;
}

/**
 * Asks the person whose token is no longer valid to sign in, and resolves to the next token. The console waits, with
 * everything as it was. It starts anew if another person, or another role, signs in.
 */
function signInAgain() {
  const { isByLoadBalancer, expiresAt } = session;
  savedToken.clear();
  return new Promise((resolve) => signInDialog({
    base,
    isByLoadBalancer,
    message: endText({ isByLoadBalancer, expiresAt }),
    onSignOut: () => showSignIn(),
    onSignedIn(next) {
      if (!isSamePerson(session, next)) {
        openConsole(next);
        page.title.focus();
        return;
      }
      Object.assign(session, next);
      showSession();
      resolve(next.token);
    },
  }));
}

function endText({ isByLoadBalancer, expiresAt }) {
  if (isByLoadBalancer) return "Your single sign-on has ended. Sign in again.";
  return expiresAt && expiresAt * 1000 <= Date.now()
    ? `Your token expired at ${exactTime(expiresAt)}. Sign in with another one.`
    : "The token is no longer valid: it was revoked or replaced. Sign in again.";
}

/** Asks the broker for the role again after it has refused a request. A console with another role starts anew. */
async function checkRole() {
  const checked = session;
  try {
    const next = await fetchSession(base, checked.token);
    if (session === checked && !isSamePerson(checked, next)) {
      openConsole(next, { message: `You are now signed in as ${next.name} with the role ${next.role}.` });
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    // The console's own requests report any other problem.
    if (error.status === 403 && session === checked) showSignIn({ message: signInError(error, checked.token) });
  }
}

async function signOut() {
  if (Object.values(drafts).some(Boolean) && !await confirm({
    title: "Sign out?",
    body: h("p", {}, "The text on the page \"Policy\" has changes that have not been applied. They will be lost."),
    action: "Sign out",
    isDanger: true,
  })) return;
  const { isByLoadBalancer, name } = session ?? {};
  showSignIn({ notice: isByLoadBalancer && loadBalancerNotice(name) });
}

/** Why a person whom the load balancer signs in cannot sign out here. */
function loadBalancerNotice(name) {
  return h("div", { class: "notice" },
    h("p", {}, "The load balancer still signs you in as ", h("bdi", {}, name),
      ", with your organisation's single sign-on, and this page cannot end that. It ends by itself after some hours. To end it now, sign out at your organisation's provider, and delete the cookies of this site in the browser."),
    h("button", { type: "button", onclick: start }, "Continue as before"));
}

/** Opens the console with the token of this tab, or for the person whom the load balancer has signed in. */
async function start() {
  const token = savedToken.get();
  fill(page.view, h("p", { class: "muted" }, "Checking who is signed in …"));
  try {
    openConsole(await fetchSession(base, token));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401 && token !== null) startWithoutToken();
    else if (error.status === 401 || error.status === 403) showSignIn({ message: signInError(error, token) });
    else showStartProblem(error);
  }
}

async function startWithoutToken() {
  savedToken.clear();
  await start();
  if (!session) showSignIn({ message: "The token is no longer valid. Sign in again." });
}

/** Keeps the token of this tab: the broker has not rejected it. */
function showStartProblem({ message }) {
  fill(page.view, h("div", { class: "card" },
    h("p", { class: "error", role: "alert" }, message),
    h("button", { type: "button", class: "primary", onclick: start }, "Try again")));
}

startTheme(page.theme);
setText(page.foot, `Times are in ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`);
page["sign-out"].addEventListener("click", signOut);
// Following the link would put #main into the address, which the router would read as the name of a view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  page.main.focus();
});
start();
