// Fields with their labels, hints and faults, and a dialog that sends them.

import { ApiError } from "./api.js";
import { showDialog } from "./dialogs.js";
import { h, newId, setText } from "./dom.js";
import { fromLocalInput, toLocalInput } from "./local-time.js";

/** Returns a labelled input: `{node, input, showFault(text)}`. Its fault is shown below it until `showFault("")`. */
export function createField({ label, hint = null, input }) {
  const [hintId, faultId] = [newId("hint"), newId("fault")];
  const fault = h("p", { id: faultId, class: "error" });
  input.id = newId("field");
  input.setAttribute("aria-describedby", hint ? `${faultId} ${hintId}` : faultId);
  const node = h("div", { class: "option" },
    h("label", { for: input.id }, label), input, fault, hint && h("p", { id: hintId, class: "muted" }, hint));
  return {
    node,
    input,
    showFault(text) {
      setText(fault, text);
      if (text) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    },
  };
}

/** The field for the reason of an action, with `text()` and `faults()`. */
export function createReasonField({ value = "", hint = "Kept in the audit records with your name." } = {}) {
  const input = h("input", { type: "text", autocomplete: "off", maxlength: "500", value });
  const field = createField({ label: "Reason", hint, input });
  const text = () => input.value.trim();
  return Object.assign(field, { text, faults: () => (text() ? [] : [[field, "Enter the reason."]]) });
}

/** A field for an optional time in the future, with `at()`, in Unix seconds or null, and `faults(now)`. */
export function createEndField({ label, hint, value = null }) {
  const input = h("input", { type: "datetime-local", value: toLocalInput(value) });
  const field = createField({ label, hint, input });
  const at = () => fromLocalInput(input.value);
  return Object.assign(field, {
    at,
    faults(now) {
      if (input.validity.badInput) return [[field, "Complete the date and the time, or clear both."]];
      return at() !== null && at() <= now ? [[field, "Enter a time in the future, or none."]] : [];
    },
  });
}

/**
 * Shows a form in a dialog of a class, and resolves to the result of `submit()` or to null if it is cancelled. `check()` returns the
 * faults of the input as `[field, text]`. If `submit` throws an `ApiError`, the dialog stays open with everything that was
 * entered; `fieldOf(error)` names the field that the error is about, if there is one.
 */
export function askForm({ title, intro, fields, action, isDanger = false, check = () => [], submit, fieldOf = () => null, className = "" }) {
  return new Promise((resolve) => {
    const formId = newId("form");
    const problem = h("p", { class: "error", role: "alert" });
    const form = h("form", { id: formId, novalidate: true, onsubmit: send }, intro, fields.map(({ node }) => node), problem);
    const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const button = h("button", { form: formId, class: isDanger ? "danger" : "primary" }, action);
    let isSending = false;
    let result = null;

    function showFaults(faults) {
      for (const field of fields) field.showFault("");
      setText(problem, "");
      for (const [field, text] of faults) {
        if (field) field.showFault(text);
        else setText(problem, text);
      }
      faults.find(([field]) => field)?.[0].input.focus();
    }

    async function send(event) {
      event.preventDefault();
      if (isSending) return;
      const faults = check();
      showFaults(faults);
      if (faults.length > 0) return;
      isSending = true;
      button.setAttribute("aria-disabled", "true");
      try {
        result = await submit();
        dialog.close();
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        showFaults([[fieldOf(error), error.message]]);
      } finally {
        isSending = false;
        button.removeAttribute("aria-disabled");
      }
    }

    const dialog = showDialog({ title, body: form, buttons: [cancel, button], className });
    dialog.addEventListener("close", () => resolve(result));
    (fields[0]?.input ?? (isDanger ? cancel : button)).focus();
  });
}
