// The notice that another version came into force while the text was edited, and the ways to go on.

import { fill, h } from "../lib/dom.js";
import { versionText } from "./policy-text.js";

/**
 * `onShowChanges(base)` is called to show what has changed since a version, `onCompare()` to compare the text with the
 * version in force, `onGoOn()` to make it a change of that version.
 */
export function createConflictNotice({ onShowChanges, onCompare, onGoOn }) {
  const node = h("div", { role: "status" });
  let shown = "";

  /** Shows the notice if the version in force is not the one that the text is a change of. */
  function show(inForce, { base, isEdited }) {
    const isConflict = isEdited && inForce.version !== base;
    const key = isConflict ? `${base} ${inForce.version}` : "";
    if (key === shown) return;
    shown = key;
    fill(node, isConflict && notice(inForce, base));
  }

  function notice(inForce, base) {
    const button = (text, onclick) => h("button", { type: "button", onclick }, text);
    const { version } = inForce;
    return h("div", { class: "notice warning" },
      h("p", {}, h("strong", {}, "The policy has changed: "), h("bdi", {}, versionText(inForce)),
        ` is in force. Your text is a change of version ${base}, and still here; without the changes since, it would undo them.`),
      h("div", { class: "bar-line" },
        button(`Changes since version ${base}`, () => onShowChanges(base)),
        button(`Compare with version ${version}`, onCompare),
        button(`Go on from version ${version}`, onGoOn)));
  }

  return { node, show };
}
