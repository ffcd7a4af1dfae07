// Counts allocated sandboxes by lab and by the time they have left, and adds up the time held, without the DOM.

export const BUCKET_SECONDS = 1800;
const LAST_BUCKET = 24; // Holds everything from 12 hours on.

/** Counts by lab, most first: the `maxLabs` largest labs, and one sum for the rest. A missing lab counts as `null`. */
export function countByLab(rows, maxLabs = 15) {
  const counts = new Map();
  for (const { track_name: lab } of rows) counts.set(lab ?? null, (counts.get(lab ?? null) ?? 0) + 1);
  const labs = [...counts].map(([lab, count]) => ({ lab, count }))
    .sort((a, b) => b.count - a.count || String(a.lab).localeCompare(String(b.lab)));
  const rest = labs.slice(maxLabs);
  return {
    top: labs.slice(0, maxLabs),
    rest: { labs: rest.length, count: rest.reduce((sum, { count }) => sum + count, 0) },
  };
}

/**
 * Adds up the seconds since allocation by lab, most first: the sum of all labs, the `maxLabs` labs with the most, and one
 * sum for the rest. Each has `count`, `total`, `average` and `longest`. A missing lab counts as `null`.
 */
export function hoursByLab(rows, now, maxLabs = 15) {
  const byLab = new Map();
  for (const { track_name: lab, allocated_at: allocatedAt } of rows) {
    if (!allocatedAt) continue;
    const held = Math.max(0, now - allocatedAt);
    const one = byLab.get(lab ?? null) ?? { lab: lab ?? null, count: 0, total: 0, longest: 0 };
    byLab.set(one.lab, { ...one, count: one.count + 1, total: one.total + held, longest: Math.max(one.longest, held) });
  }
  const labs = [...byLab.values()].sort((a, b) => b.total - a.total || String(a.lab).localeCompare(String(b.lab)));
  const rest = labs.slice(maxLabs);
  return {
    all: sumOf(labs),
    top: labs.slice(0, maxLabs).map(withAverage),
    rest: { labs: rest.length, ...sumOf(rest) },
  };
}

function sumOf(labs) {
  const sum = { count: 0, total: 0, longest: 0 };
  for (const { count, total, longest } of labs) {
    sum.count += count;
    sum.total += total;
    sum.longest = Math.max(sum.longest, longest);
  }
  return withAverage(sum);
}

const withAverage = (sum) => ({ ...sum, average: sum.count === 0 ? 0 : sum.total / sum.count });

/** Returns the longest time from allocation to end by lab, in seconds. */
export function longestLeaseByLab(rows) {
  const longest = new Map();
  for (const { track_name: lab, allocated_at: from, expires_at: to } of rows) {
    if (lab && from && to) longest.set(lab, Math.max(longest.get(lab) ?? 0, to - from));
  }
  return longest;
}

/**
 * Counts by time left, in buckets of half an hour that begin at 0. Allocations past their `expires_at`, whose grace
 * period may still run, are counted in `pastExpiry`. `isLastOpen` says whether the last bucket has no upper end.
 */
export function countByTimeLeft(rows, now) {
  const buckets = [];
  let pastExpiry = 0;
  for (const { expires_at: expiresAt } of rows) {
    if (expiresAt === null || expiresAt === undefined) continue;
    const left = expiresAt - now;
    if (left <= 0) {
      pastExpiry += 1;
      continue;
    }
    const bucket = Math.min(Math.floor(left / BUCKET_SECONDS), LAST_BUCKET);
    while (buckets.length <= bucket) buckets.push(0);
    buckets[bucket] += 1;
  }
  return { pastExpiry, buckets, isLastOpen: buckets.length > LAST_BUCKET };
}
