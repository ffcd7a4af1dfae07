// The sign-in form.

import { ApiError, createApi } from "../lib/api.js";
import { h, setText } from "../lib/dom.js";

const POSSIBLE = /^[\x21-\x7e]+$/; // What a header can carry, and so what a token can be.

/** Asks for the token until one is right, then calls `onSignedIn(token, overview)`. */
export function signInForm({ base, message, onSignedIn }) {
  const input = h("input", {
    id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "sign-in-fault",
  });
  const button = h("button", { class: "primary" }, "Sign in");
  const fault = h("p", { id: "sign-in-fault", class: "fault", role: "alert" }, message ?? "");
  const form = h("form", { class: "card sign-in", novalidate: true, onsubmit: submit },
    h("p", {}, "The token is kept in this tab only, until you sign out or close it."),
    h("label", { for: "token" }, "Admin token"), input, fault, button);

  function refuse(text) {
    setText(fault, text);
    input.setAttribute("aria-invalid", "true");
    input.focus();
    input.select();
  }

  async function submit(event) {
    event.preventDefault();
    const token = input.value.trim();
    if (!token) return refuse("Enter the admin token.");
    if (!POSSIBLE.test(token)) return refuse("No token has such characters. Was something else pasted?");
    setText(fault, "");
    input.removeAttribute("aria-invalid");
    button.disabled = true;
    setText(button, "Checking …");
    try {
      onSignedIn(token, await createApi({ base, token }).get("/admin/overview"));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      refuse(faultText(error));
    } finally {
      button.disabled = false;
      setText(button, "Sign in");
    }
  }

  return { node: form, focus: () => input.focus() };
}

function faultText({ status, message, retryAfter }) {
  if (status === 401) return "The token is not valid.";
  if (status === 403) return "This is the token of a track. The dashboard needs an admin's.";
  if (status === 429) return `Too many attempts. Try again in ${retryAfter ?? "a few"} seconds.`;
  if (status >= 500) return `The broker has a problem: ${message} Your token was not checked; try again.`;
  return `${message} Your token was not checked; try again.`;
}
