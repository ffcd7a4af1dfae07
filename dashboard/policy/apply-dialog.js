// Asks an admin to confirm a new version of the policy, and sends it.

import { h } from "../lib/dom.js";
import { askForm, createField } from "../lib/form.js";
import { changesTable } from "./changes-table.js";
import { changesText } from "./policy-text.js";
import { applyDocument } from "./requests.js";

const CHANGED = "POLICY_CHANGED";
const INVALID = "INVALID_POLICY";

/**
 * `changes` is null if version `base` cannot be read. Resolves to `{applied}`, the broker's answer; to `{refused}`, an `ApiError`, if another version is in force or the
 * document has faults; or to null if the admin cancels.
 */
export function askToApply({ api }, { text, base, changes }) {
  const reason = createField({
    label: "Reason (optional)",
    hint: "Kept in the history and in the audit records, with your name.",
    input: h("input", { type: "text", autocomplete: "off", maxlength: "500" }),
  });

  async function submit() {
    try {
      return { applied: await applyDocument(api, { text, base, reason: reason.input.value.trim() }) };
    } catch (error) {
      if (error.code === CHANGED || error.code === INVALID) return { refused: error };
      throw error;
    }
  }

  return askForm({
    title: "Apply the policy?",
    intro: [
      h("p", {}, changes ? `It has ${changesText(changes, base)}.` : `It replaces version ${base}, which cannot be read.`,
        " It is in force within five seconds on every broker and in every job. Sandboxes that are allocated keep their end."),
      changes && changesTable(`Changes to version ${base}`, changes),
    ],
    fields: [reason],
    action: "Apply",
    submit,
    className: "wide",
  });
}
