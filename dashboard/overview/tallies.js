// What the charts show, as numbers. No DOM here.

export const HALF_HOUR = 1800;
const LAST_BUCKET = 24; // From 12 hours on all in one.

/** Allocated sandboxes by lab, most first: the first few, and one sum for the rest. */
export function byLab(rows, most = 15) {
  const counts = new Map();
  for (const { track_name: lab } of rows) counts.set(lab ?? null, (counts.get(lab ?? null) ?? 0) + 1);
  const labs = [...counts].map(([lab, count]) => ({ lab, count }))
    .sort((a, b) => b.count - a.count || String(a.lab).localeCompare(String(b.lab)));
  const rest = labs.slice(most);
  return { top: labs.slice(0, most), rest: { labs: rest.length, count: rest.reduce((sum, { count }) => sum + count, 0) } };
}

/** How much time allocations have left, by half hours from 0 on; those whose time is over count separately. */
export function timeLeft(rows, now) {
  const buckets = [];
  let overdue = 0;
  for (const { expires_at: end } of rows) {
    if (end === null || end === undefined) continue;
    const left = end - now;
    if (left <= 0) {
      overdue += 1;
      continue;
    }
    const at = Math.min(Math.floor(left / HALF_HOUR), LAST_BUCKET);
    while (buckets.length <= at) buckets.push(0);
    buckets[at] += 1;
  }
  return { overdue, buckets, isLastOpen: buckets.length > LAST_BUCKET };
}

/** The samples with an empty one wherever some are missing, so that a line ends there. */
export function withGaps(samples, everySeconds) {
  const result = [];
  for (const sample of samples) {
    const before = result.at(-1);
    if (before && sample.at - before.at > everySeconds * 1.5) result.push({ at: before.at + everySeconds });
    result.push(sample);
  }
  return result;
}

/** Columns of numbers for a chart: the times, then each key; what is missing is null. */
export function columnsOf(samples, keys) {
  return [samples.map(({ at }) => at), ...keys.map((key) => samples.map((sample) => sample[key] ?? null))];
}

/** The same, each key on top of those before it. */
export function stacked([times, ...columns]) {
  const sums = new Array(times.length).fill(0);
  const raised = columns.map((column) => column.map((value, at) => (value === null ? null : (sums[at] += value))));
  return [times, ...raised];
}

/** One line for each hour: the last state in it, and the sums of what happened. */
export function hourly(samples) {
  const hours = new Map();
  for (const sample of samples) {
    const hour = Math.floor(sample.at / 3600) * 3600;
    const before = hours.get(hour);
    hours.set(hour, {
      ...sample,
      at: hour,
      allocations: (before?.allocations ?? 0) + sample.allocations,
      releases: (before?.releases ?? 0) + sample.releases,
    });
  }
  return [...hours.values()].sort((a, b) => b.at - a.at);
}
