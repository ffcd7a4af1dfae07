// The address of the view of sandboxes: `#/sandboxes?status=stale` sets the filter.

const VIEW = "#/sandboxes";

/** Returns the address of the table with a filter. A filter that is left out or empty matches every sandbox. */
export function addressOf(filter) {
  const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value));
  return `${VIEW}?${query}`;
}

/** Parses what follows the name of the view. Returns null for the view as it was left. */
export function parseAddress(rest) {
  if (!rest.startsWith("?")) return null;
  const query = new URLSearchParams(rest);
  return Object.fromEntries(["status", "lab", "search"].map((key) => [key, query.get(key) ?? ""]));
}
