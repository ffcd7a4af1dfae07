// Versions and changes of the policy in words, without the DOM.

import { exactTime, plural } from "../lib/format.js";

/** `version 3 by ada at 2026-11-24 19:52:07` */
export const versionText = ({ version, author, at }) => `version ${version} by ${author} at ${exactTime(at)}`;

/** A value of a change in words. */
export function valueText(value) {
  if (value === null || value === undefined) return "none";
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** `1 change to version 3`, `no changes to version 3` */
export const changesText = (changes, version) => `${changes.length === 0 ? "no changes" : plural(changes.length, "change")} to version ${version}`;
