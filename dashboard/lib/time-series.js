// Prepares the broker's samples for charts and for their tables.

/** Inserts an empty sample wherever samples are missing, so that a line in the chart is interrupted there. */
export function withGaps(samples, intervalSeconds) {
  const result = [];
  for (const sample of samples) {
    const previous = result.at(-1);
    if (previous && sample.at - previous.at > intervalSeconds * 1.5) result.push({ at: previous.at + intervalSeconds });
    result.push(sample);
  }
  return result;
}

/** The shortest time that a chart shows, in seconds. */
const MIN_SPAN = 3600;

/**
 * Returns the range of a chart's time axis, for its first and its last sample. A shorter one has no distinct labels: its
 * labels have minutes, and a single sample has no range at all.
 */
export function timeRange(first, last) {
  return last - first < MIN_SPAN ? [last - MIN_SPAN, last] : [first, last];
}

/** Returns one array for the times and one for each key, as uPlot wants them; missing values are null. */
export function columnsOf(samples, keys) {
  return [samples.map(({ at }) => at), ...keys.map((key) => samples.map((sample) => sample[key] ?? null))];
}

/** Returns the columns with each one added to the sum of those before it, for stacked areas. */
export function stacked([times, ...columns]) {
  const sums = new Array(times.length).fill(0);
  const raised = columns.map((column) =>
    column.map((value, index) => (value === null ? null : (sums[index] += value))));
  return [times, ...raised];
}

/** Returns one sample per hour, newest first: the last state in the hour, and the sums of its events. */
export function hourly(samples) {
  const hours = new Map();
  for (const sample of samples) {
    const hour = Math.floor(sample.at / 3600) * 3600;
    const previous = hours.get(hour);
    hours.set(hour, {
      ...sample,
      at: hour,
      allocations: (previous?.allocations ?? 0) + sample.allocations,
      releases: (previous?.releases ?? 0) + sample.releases,
    });
  }
  return [...hours.values()].sort((a, b) => b.at - a.at);
}
