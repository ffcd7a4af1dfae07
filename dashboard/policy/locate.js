// Finds the place of a fault in a TOML document, without the DOM. It reads no values: a document with faults has fields, too.

/**
 * Returns the place of a fault, `{line, column}` from 1: the one in its path if the document cannot be parsed, such as
 * `line 4, column 9`, else that of the field at a path such as `lab[2].max_held`, or of the nearest table or inline value
 * around it. Returns null if the document has none of them.
 */
export function placeOf(text, path) {
  const [, line, column] = /^line (\d+), column (\d+)/.exec(path) ?? [];
  if (line) return { line: Number(line), column: Number(column) };
  const wanted = keysOf(path).flatMap(splitIndexes);
  let best = { depth: 0, line: null };
  for (const { line, keys } of fieldsOf(text)) {
    const isAround = keys.length <= wanted.length && keys.every((key, index) => key === wanted[index]);
    if (isAround && keys.length > best.depth) best = { depth: keys.length, line };
  }
  return best.line === null ? null : { line: best.line, column: 1 };
}

/** Returns the tables and fields of a document: `{line, keys}`, where an index is a key of its own. */
function fieldsOf(text) {
  const found = [];
  const counts = new Map(); // How many elements each array of tables has so far.
  let table = [];
  let closing = null; // The delimiter that ends the string of several lines that the line is in.

  /** Puts the index of the current element after each array in the keys of a table. */
  const withIndexes = (names) => names.reduce((keys, name) => {
    const next = [...keys, name];
    const count = counts.get(next.join("\n"));
    return count ? [...next, String(count - 1)] : next;
  }, []);

  text.split("\n").forEach((content, index) => {
    const isInString = closing !== null;
    closing = delimiterAfter(content, closing);
    if (isInString) return;
    const [, element, header, field] = /^\s*(?:\[\[(.+?)\]\]|\[(.+?)\]|([^#=[\]]+?)\s*=)/.exec(content) ?? [];
    if (element) {
      const array = [...withIndexes(keysOf(element).slice(0, -1)), keysOf(element).at(-1)];
      counts.set(array.join("\n"), (counts.get(array.join("\n")) ?? 0) + 1);
    }
    if (element || header) table = withIndexes(keysOf(element ?? header));
    const keys = field ? [...table, ...keysOf(field)] : element || header ? table : null;
    if (keys) found.push({ line: index + 1, keys });
  });
  return found;
}

/** Returns the delimiter of the string of several lines that is open after a line, or null. */
function delimiterAfter(content, open) {
  for (const [delimiter] of content.matchAll(/"""|'''/g)) {
    if (open === null) open = delimiter;
    else if (open === delimiter) open = null;
  }
  return open;
}

/** Splits a dotted key, whose parts may be quoted. */
const keysOf = (dotted) => [...dotted.matchAll(/"([^"]*)"|'([^']*)'|([^\s."']+)/g)].map((match) => match[1] ?? match[2] ?? match[3]);

/** `lab[2]` as `lab` and `2` */
const splitIndexes = (key) => key.split(/[[\]]+/).filter(Boolean);
