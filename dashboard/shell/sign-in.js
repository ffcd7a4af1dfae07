// The sign-in form.

import { ApiError, createApi } from "../lib/api.js";
import { h, setText } from "../lib/dom.js";

const TOKEN_CHARACTERS = /^[\x21-\x7e]+$/; // Visible ASCII: a token is sent in an HTTP header.

/** Asks for a token until the broker accepts one, then calls `onSignedIn(token, overview)`. */
export function signInForm({ base, message, onSignedIn }) {
  const input = h("input", {
    id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "sign-in-error",
  });
  const button = h("button", { class: "primary" }, "Sign in");
  const error = h("p", { id: "sign-in-error", class: "error", role: "alert" }, message ?? "");
  const form = h("form", { class: "card sign-in", novalidate: true, onsubmit: submit },
    h("p", {}, "The token is kept in this tab only, until you sign out or close it."),
    h("label", { for: "token" }, "Admin token"), input, error, button);

  function showError(text) {
    setText(error, text);
    input.setAttribute("aria-invalid", "true");
    input.focus();
    input.select();
  }

  async function submit(event) {
    event.preventDefault();
    const token = input.value.trim();
    if (!token) return showError("Enter the admin token.");
    if (!TOKEN_CHARACTERS.test(token)) {
      return showError("A token has no spaces and no characters outside ASCII. Check the text that you pasted.");
    }
    setText(error, "");
    input.removeAttribute("aria-invalid");
    button.disabled = true;
    setText(button, "Checking …");
    try {
      onSignedIn(token, await createApi({ base, token }).get("/admin/overview"));
    } catch (cause) {
      if (!(cause instanceof ApiError)) throw cause;
      showError(errorText(cause));
    } finally {
      button.disabled = false;
      setText(button, "Sign in");
    }
  }

  return { node: form, focus: () => input.focus() };
}

function errorText({ status, message, retryAfter }) {
  if (status === 401) return "The token is not valid.";
  if (status === 403) return "This is a track token. The dashboard needs an admin token.";
  if (status === 429) return `Too many attempts. Try again in ${retryAfter ?? "a few"} seconds.`;
  if (status >= 500) return `The broker has a problem: ${message} Your token was not checked; try again.`;
  return `${message} Your token was not checked; try again.`;
}
