// The address of the view of sandboxes: `#/sandboxes?status=stale` sets the filter, `#/sandboxes/2009521` opens one sandbox.

const VIEW = "#/sandboxes";

/** Returns the address of the table with a filter. A filter that is left out or empty matches every sandbox. */
export function addressOf(filter) {
  const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value));
  return `${VIEW}?${query}`;
}

/** Returns the address of one sandbox. */
export const addressOfSandbox = (id) => `${VIEW}/${encodeURIComponent(id)}`;

/**
 * Parses the rest of an address after the name of the view. Returns `{filter}`, `{id}`, or neither for the view as it was
 * left.
 */
export function parseAddress(rest) {
  if (rest.startsWith("?")) {
    const query = new URLSearchParams(rest);
    return { filter: Object.fromEntries(["status", "lab", "search", "prefix"].map((key) => [key, query.get(key) ?? ""])) };
  }
  try {
    const id = decodeURIComponent(rest.slice(1));
    return id ? { id } : {};
  } catch {
    return {}; // A lone "%".
  }
}
