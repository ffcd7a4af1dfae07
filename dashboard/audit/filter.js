// The filter of the audit page: its form in the URL, so that it can be shared, and in requests. Without the DOM.

const VIEW = "#/audit";
const KEYS = ["from", "to", "actor", "action", "target", "outcome"];
const TIMES = ["from", "to"]; // Unix seconds, so that a link means the same in every time zone.

/** Returns the address of the page with a filter. */
export function addressOf(filter) {
  const query = new URLSearchParams(KEYS.flatMap((key) => (isSet(filter[key]) ? [[key, filter[key]]] : [])));
  return query.size > 0 ? `${VIEW}?${query}` : VIEW;
}

/** Parses the rest of an address after the name of the view. An invalid time matches every record. */
export function parseFilter(rest) {
  const query = new URLSearchParams(rest.startsWith("?") ? rest : "");
  return Object.fromEntries(KEYS.map((key) => {
    const text = query.get(key)?.trim() ?? "";
    return [key, TIMES.includes(key) ? (/^\d{1,11}$/.test(text) ? Number(text) : null) : text];
  }));
}

/** The parameters of a request. */
export const paramsOf = (filter) => Object.fromEntries(KEYS.map((key) => [key, isSet(filter[key]) ? filter[key] : null]));

const isSet = (value) => value !== null && value !== undefined && value !== "";
