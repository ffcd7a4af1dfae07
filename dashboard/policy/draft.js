// The text in the editor: the document in force until somebody edits it, without the DOM.

import { observable } from "../lib/observable.js";

/**
 * `kept` is `{policy}`, where a text that is edited is kept while the console starts anew. The draft is observable:
 * `{text, base, baseText}`, where `base` is the version that it will replace, and null until one is known.
 */
export function createDraft(kept) {
  const draft = observable(kept.policy ?? { text: "", base: null, baseText: "" });

  function set(next) {
    kept.policy = isEdited(next) ? next : null;
    draft.set(next);
  }

  return {
    get: draft.get,
    subscribe: draft.subscribe,
    isEdited: () => isEdited(draft.get()),
    edit: (text) => set({ ...draft.get(), text }),
    /** Shows a newer version in force, unless the text is edited. */
    follow({ version, text }) {
      if (!isEdited(draft.get())) set({ text, base: version, baseText: text });
    },
    /** Keeps the text, as a change of another version. */
    rebase: ({ version, text }) => set({ ...draft.get(), base: version, baseText: text }),
    /** Drops the text for the document in force. */
    discard: ({ version, text }) => set({ text, base: version, baseText: text }),
  };
}

const isEdited = ({ text, baseText }) => text !== baseText;
