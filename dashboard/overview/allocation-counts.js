// Counts allocated sandboxes by lab and by the time they have left, without the DOM.

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
