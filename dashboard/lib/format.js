// Figures and times as people read them. Times are Unix seconds, and shown in the time zone of the browser.

const figures = new Intl.NumberFormat("en");

export const STATUSES = ["available", "allocated", "pending_deletion", "stale", "deletion_failed"];

const STATUS_NAMES = {
  available: "available",
  allocated: "allocated",
  pending_deletion: "pending deletion",
  stale: "stale",
  deletion_failed: "deletion failed",
};

/** `20,000` */
export const number = (value) => figures.format(value);

/** `pending deletion`; a status that this page does not know reads as it is. */
export const statusName = (status) => STATUS_NAMES[status] ?? status;

/** `1 sandbox`, `2 sandboxes` */
export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

export const sandboxes = (count) => plural(count, "sandbox", "sandboxes");

/** `8 s`, `12 min`, `4 h 26 min`, `3 d 4 h`: two units at most. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return twoUnits(minutes, 60, "h", "min");
  return twoUnits(Math.round(whole / 3600), 24, "d", "h");
}

function twoUnits(value, size, large, small) {
  const rest = value % size;
  const first = `${number(Math.floor(value / size))} ${large}`;
  return rest === 0 ? first : `${first} ${rest} ${small}`;
}

/** `4 min ago`, `in 6 min`, `now` */
export function relative(at, now) {
  const distance = Math.round(at - now);
  if (distance === 0) return "now";
  return distance < 0 ? `${duration(-distance)} ago` : `in ${duration(distance)}`;
}

const two = (value) => String(value).padStart(2, "0");

/** `19:52` */
export function clockTime(at) {
  const date = new Date(at * 1000);
  return `${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** `2026-11-24` */
export function day(at) {
  const date = new Date(at * 1000);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** `2026-11-24 19:52`; nothing for what never happened (0 or null). */
export const dateTime = (at) => (at ? `${day(at)} ${clockTime(at)}` : "");

/** `2026-11-24 19:52:07` */
export const exactTime = (at) => (at ? `${dateTime(at)}:${two(new Date(at * 1000).getSeconds())}` : "");

/** `2026-11-24T18:52:07Z`, for other programs. */
export const isoTime = (at) => (at ? new Date(at * 1000).toISOString().replace(".000Z", "Z") : "");
