// Formats numbers, statuses and times (Unix seconds, shown in the browser's time zone) for the operator.

const numberFormat = new Intl.NumberFormat("en");

const STATUS_NAMES = {
  provisioning: "provisioning",
  available: "available",
  allocated: "allocated",
  pending_deletion: "pending deletion",
  stale: "stale",
  deletion_failed: "deletion failed",
  quarantined: "quarantined",
};

export const STATUSES = Object.keys(STATUS_NAMES);

/** `20,000` */
export const number = (value) => numberFormat.format(value);

/** `pending deletion`; a status that this page does not know is shown as it is. */
export const statusName = (status) => STATUS_NAMES[status] ?? status;

/** `1 run`, `2 runs` */
export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/** `1 sandbox`, `1,200 sandboxes` */
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
  const remainder = value % size;
  const whole = `${number(Math.floor(value / size))} ${large}`;
  return remainder === 0 ? whole : `${whole} ${remainder} ${small}`;
}

/** `4 min ago`, `in 6 min`, `now` */
export function relative(at, now) {
  const distance = Math.round(at - now);
  if (distance === 0) return "now";
  return distance < 0 ? `${duration(-distance)} ago` : `in ${duration(distance)}`;
}

const twoDigits = (value) => String(value).padStart(2, "0");

/** `19:52` */
export function clockTime(at) {
  const date = new Date(at * 1000);
  return `${twoDigits(date.getHours())}:${twoDigits(date.getMinutes())}`;
}

/** `2026-11-24` */
export function day(at) {
  const date = new Date(at * 1000);
  return `${date.getFullYear()}-${twoDigits(date.getMonth() + 1)}-${twoDigits(date.getDate())}`;
}

/** `2026-11-24 19:52`; empty for a time that is not set (0 or null). */
export const dateTime = (at) => (at ? `${day(at)} ${clockTime(at)}` : "");

/** `2026-11-24 19:52:07` */
export const exactTime = (at) => (at ? `${dateTime(at)}:${twoDigits(new Date(at * 1000).getSeconds())}` : "");

/** `2026-11-24T18:52:07Z`, for other programs. */
export const isoTime = (at) => (at ? new Date(at * 1000).toISOString().replace(".000Z", "Z") : "");

/** Replaces the Unix seconds in a message of the broker by times of the day. */
export function withTimes(text) {
  return text.replace(/\b1\d{9}\b/g, (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB"));
}
