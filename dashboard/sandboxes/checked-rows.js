// The sandboxes that the operator has checked in the table, by id, over all pages and filters.

export function createCheckedRows() {
  const ids = new Set();
  let rangeStart = null; // The id that was checked or unchecked last.
  return {
    has: (id) => ids.has(id),
    size: () => ids.size,
    set(changed, isChecked) {
      for (const id of changed) {
        if (isChecked) ids.add(id);
        else ids.delete(id);
      }
    },
    /** Checks or unchecks a row of a page; with the shift key, all rows from the one before. */
    toggle(pageIds, id, { target, shiftKey }) {
      this.set(shiftKey ? idsBetween(pageIds, rangeStart, id) : [id], target.checked);
      rangeStart = id;
    },
    clear: () => ids.clear(),
    /** Returns the checked ones of `rows`. */
    among: (rows) => rows.filter(({ sandbox_id: id }) => ids.has(id)),
    /** Forgets the sandboxes that have left the pool. */
    keepOnly(rows) {
      if (ids.size === 0) return;
      const all = new Set(rows.map(({ sandbox_id: id }) => id));
      for (const id of ids) if (!all.has(id)) ids.delete(id);
    },
  };
}

/** Returns the ids from one to another, in the order of the page; only `to` if the other one is not on the page. */
export function idsBetween(pageIds, from, to) {
  const [a, b] = [pageIds.indexOf(from), pageIds.indexOf(to)];
  return a < 0 ? [to] : pageIds.slice(Math.min(a, b), Math.max(a, b) + 1);
}
