// Converts between Unix seconds and the values of `<input type="datetime-local">`, which are in the browser's time zone.

import { day, exactTime } from "./format.js";

/** `2026-11-24T19:52`, with seconds if there are any; empty for no time. */
export function toLocalInput(at) {
  if (at === null || at === undefined || !Number.isFinite(at)) return "";
  return `${day(at)}T${exactTime(at).slice(11).replace(/:00$/, "")}`;
}

/** Returns the Unix seconds of an input's value, or null if it is empty or incomplete. */
export function fromLocalInput(value) {
  const at = Math.floor(new Date(value).getTime() / 1000);
  return value && Number.isFinite(at) ? at : null;
}
