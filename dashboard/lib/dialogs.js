// Modal dialogs, made with the browser's <dialog>, which traps the focus and closes on Escape.

import { h, newId } from "./dom.js";

/**
 * Shows a dialog. When it closes, it is removed and the focus returns to the element that had it, or to the heading of the
 * dialog or the page below if that element is gone.
 */
export function showDialog({ title, body, buttons, className = "" }) {
  const titleId = newId("dialog");
  const opener = document.activeElement;
  const dialog = h("dialog", { class: className, "aria-labelledby": titleId },
    h("h2", { id: titleId, tabindex: "-1" }, title), body, h("div", { class: "buttons" }, buttons));
  dialog.addEventListener("close", () => {
    dialog.remove();
    const below = [...document.querySelectorAll("dialog")].at(-1)?.querySelector("h2") ?? document.getElementById("title");
    (opener?.checkVisibility() ? opener : below).focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Closes the open dialogs; those marked `data-stays` only with `all`, because something is lost with them. */
export function closeDialogs({ all = false } = {}) {
  for (const dialog of document.querySelectorAll(all ? "dialog" : "dialog:not([data-stays])")) dialog.close();
}

/** Shows a dialog whose only button closes it. `onClose` is called when it has been closed, in any way. */
export function showDetails({ title, body, onClose = () => {} }) {
  const close = h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close");
  const dialog = showDialog({ title, body, buttons: [close], className: "wide" });
  dialog.addEventListener("close", onClose);
}

/**
 * Asks the operator to confirm an action, and resolves to true or false. `requiredText`, if given, must be typed first;
 * `isValid` is called on confirmation and keeps the dialog open if it returns false.
 */
export function confirm({ title, body, action, isDanger = false, requiredText = null, isValid = () => true }) {
  return new Promise((resolve) => {
    const input = h("input", { id: newId("confirm"), autocomplete: "off", oninput: updateButton });
    const confirmButton = h("button", {
      class: isDanger ? "danger" : "primary", type: "button", onclick: () => isValid() && dialog.close("confirmed"),
    }, action);
    const cancelButton = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const prompt = requiredText && [h("label", { for: input.id }, `Type ${requiredText} to confirm`), input];

    function updateButton() {
      confirmButton.disabled = requiredText !== null && input.value.trim() !== requiredText;
    }
    updateButton();
    const dialog = showDialog({ title, body: [body, prompt], buttons: [cancelButton, confirmButton] });
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "confirmed"));
    // Pressing Enter twice must not confirm a dangerous action.
    if (isDanger) (requiredText ? input : cancelButton).focus();
    else confirmButton.focus();
  });
}
