// Shows the secret of a new token, once: it is in no other place of the page, and gone when the dialog closes.

import { showDialog } from "../lib/dialogs.js";
import { h, newId, setText } from "../lib/dom.js";

export function showSecret({ token, secret }) {
  let isCopied = false;
  let isWarned = false;
  const field = h("input", { id: newId("secret"), readonly: true, class: "secret", value: secret, oncopy: () => done() });
  const state = h("p", { role: "status" });
  const warning = h("p", { class: "error", role: "alert" });
  const copy = h("button", { type: "button", class: "primary", onclick: copySecret }, "Copy");
  const close = h("button", { type: "button", onclick: askToClose }, "Close");

  const dialog = showDialog({
    title: `Secret of ${token.name}`,
    body: [
      h("p", {}, "This is the only time that it is shown: the broker keeps only its hash. Copy it now to where it will be used."),
      h("label", { for: field.id }, "Secret"), field, state, warning,
    ],
    buttons: [copy, close],
  });
  dialog.dataset.stays = "true";
  dialog.addEventListener("cancel", (event) => {
    if (isCopied || isWarned) return;
    event.preventDefault();
    askToClose();
  });
  dialog.addEventListener("close", () => {
    field.value = "";
    removeEventListener("beforeunload", warnBeforeUnload);
  });
  addEventListener("beforeunload", warnBeforeUnload);
  field.focus();
  field.select();

  async function copySecret() {
    try {
      await navigator.clipboard.writeText(secret);
      done();
    } catch {
      // Without permission, or on a page without HTTPS. The older way copies the selection.
      field.focus();
      field.select();
      if (!document.execCommand("copy")) setText(state, "The browser does not copy it. It is selected: copy it with the keyboard.");
    }
  }

  function done() {
    isCopied = true;
    setText(warning, "");
    setText(state, "Copied.");
  }

  function askToClose() {
    if (isCopied || isWarned) return dialog.close();
    isWarned = true;
    setText(warning, "The secret has not been copied, and cannot be shown again. Close anyway?");
    setText(close, "Close without copying");
  }

  function warnBeforeUnload(event) {
    if (!isCopied) event.preventDefault();
  }
}
