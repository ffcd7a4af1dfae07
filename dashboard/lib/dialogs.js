// Dialogs, with the browser's own element: it keeps the focus inside, and Escape closes it.

import { h, newId } from "./dom.js";

/** Shows a dialog until it is closed, then gives the focus back and removes it. */
export function showDialog({ title, body, buttons, className = "" }) {
  const titleId = newId("dialog");
  const opener = document.activeElement;
  const dialog = h("dialog", { class: className, "aria-labelledby": titleId },
    h("h2", { id: titleId }, title), body, h("div", { class: "buttons" }, buttons));
  dialog.addEventListener("close", () => {
    dialog.remove();
    (opener?.isConnected ? opener : document.getElementById("title")).focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Closes what is open, as Escape would. */
export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
}

/** A dialog that only tells. */
export function showDetails({ title, body }) {
  const close = h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close");
  const dialog = showDialog({ title, body, buttons: [close], className: "wide" });
}

/**
 * Asks before something is done. `word`, if given, has to be typed first; `isValid` may hold the answer back. Resolves
 * to true or false.
 */
export function confirm({ title, body, action, isDanger = false, word = null, isValid = () => true }) {
  return new Promise((resolve) => {
    const typed = h("input", { id: newId("confirm"), autocomplete: "off", oninput: check });
    const go = h("button", { class: isDanger ? "danger" : "primary", type: "button", onclick: () => isValid() && dialog.close("go") }, action);
    const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const ask = word && [h("label", { for: typed.id }, `Type ${word} to confirm`), typed];

    function check() {
      go.disabled = word !== null && typed.value.trim() !== word;
    }
    check();
    const dialog = showDialog({ title, body: [body, ask], buttons: [cancel, go] });
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "go"));
    // What is dangerous does not happen by pressing Enter twice.
    if (isDanger) (word ? typed : cancel).focus();
    else go.focus();
  });
}
