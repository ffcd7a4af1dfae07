// The sign-in form, as the page of a tab without a session, and as a dialog above a page whose token is no longer valid.

import { ApiError } from "../lib/api.js";
import { h, newId, setText } from "../lib/dom.js";
import { fetchSession } from "./session.js";

const TOKEN_CHARACTERS = /^[\x21-\x7e]+$/; // Visible ASCII: a token is sent in an HTTP header.

/** Asks for a token until the broker accepts one, then calls `onSignedIn(session)`. */
export function signInForm({ base, message = null, onSignedIn, ...options }) {
  const [inputId, errorId] = [newId("token"), newId("sign-in-error")];
  const input = h("input", {
    id: inputId, type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": errorId,
  });
  const button = h("button", { class: "primary" }, "Sign in");
  const error = h("p", { id: errorId, class: "error", role: "alert" }, message ?? "");
  const form = h("form", { class: "sign-in", novalidate: true, onsubmit: submit },
    options.notice,
    h("p", {}, "The token is kept in this tab only, until you sign out or close it."),
    h("label", { for: inputId }, "Token"), input, error, button, options.buttons);

  function showError(text) {
    setText(error, text);
    input.setAttribute("aria-invalid", "true");
    input.focus();
    input.select();
  }

  async function submit(event) {
    event.preventDefault();
    const token = input.value.trim();
    if (!token) return showError("Enter a token.");
    if (!TOKEN_CHARACTERS.test(token)) {
      return showError("A token has no spaces and no characters outside ASCII. Check the text that you pasted.");
    }
    setText(error, "");
    input.removeAttribute("aria-invalid");
    button.disabled = true;
    setText(button, "Checking …");
    try {
      onSignedIn(await fetchSession(base, token));
    } catch (cause) {
      if (!(cause instanceof ApiError)) throw cause;
      showError(signInError(cause, token));
    } finally {
      button.disabled = false;
      setText(button, "Sign in");
    }
  }

  return { node: form, focus: () => input.focus() };
}

/**
 * Shows the form above the page, whose views stay as they are behind it. `onSignOut()` is called if the person leaves it
 * in another way.
 */
export function signInDialog({ base, message, isByLoadBalancer, onSignedIn, onSignOut }) {
  const titleId = newId("dialog");
  let isDone = false;
  function finish(session) {
    isDone = true;
    dialog.close();
    onSignedIn(session);
  }
  const form = signInForm({
    base,
    message,
    onSignedIn: finish,
    notice: isByLoadBalancer && loadBalancerNotice({ base, onSignedIn: finish }),
    buttons: h("button", { type: "button", onclick: () => dialog.close() }, "Sign out"),
  });
  const dialog = h("dialog", { class: "cover", "data-stays": true, closedby: "none", "aria-labelledby": titleId },
    h("h2", { id: titleId }, "Sign in"), form.node);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (!isDone) onSignOut();
  });
  document.body.append(dialog);
  dialog.showModal();
  form.focus();
}

/** How to sign in again at the load balancer: in another tab, so that this page stays as it is. */
function loadBalancerNotice({ base, onSignedIn }) {
  const state = h("p", { role: "status" });
  const go = h("button", { type: "button", onclick: check }, "Continue");
  async function check() {
    setText(state, "Checking …");
    try {
      onSignedIn(await fetchSession(base, null));
    } catch (cause) {
      if (!(cause instanceof ApiError)) throw cause;
      setText(state, signInError(cause, null) ?? "You are not signed in at the load balancer yet.");
    }
  }
  return h("div", { class: "notice" },
    h("p", {}, "The load balancer signs you in: ",
      h("a", { href: location.pathname, target: "_blank", rel: "noopener" }, "sign in in a new tab"),
      ", then come back and continue. Or use a token."),
    state, go);
}

/**
 * Returns why the broker did not accept a token. Without a token, returns why it did not accept the person whom the load
 * balancer has signed in, or null if that has signed in nobody.
 */
export function signInError({ status, message, retryAfter }, token) {
  if (token === null) return status === 401 && !message.includes("load balancer") ? null : message;
  if (status === 401) return "The token is not valid.";
  if (status === 403) return "This is a track token. The dashboard needs a token with the role viewer, operator or admin.";
  if (status === 429) return `Too many attempts. Try again in ${retryAfter ?? "a few"} seconds.`;
  if (status >= 500) return `The broker has a problem: ${message} Your token was not checked; try again.`;
  return `${message} Your token was not checked; try again.`;
}
