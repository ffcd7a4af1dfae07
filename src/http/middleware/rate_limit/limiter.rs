//! A rate limiter of fixed size.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{CELLS, Quota};

/// The decision of a limiter about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) is_allowed: bool,
    /// The size of the largest burst.
    pub(super) limit: u32,
    /// The requests left in the current burst.
    pub(super) remaining: u64,
    /// Until a burst of `limit` requests is possible again.
    pub(super) reset: Duration,
    /// Until one more request is allowed.
    pub(super) retry_after: Duration,
}

/// The generic cell rate algorithm over a fixed number of cells, so that no number of keys makes it grow. Keys that
/// share a cell share a quota; the hash differs in every process, so a client cannot choose them.
///
/// The limiters on crates.io keep an entry for each key, and none can limit requests after it has admitted them.
#[derive(Debug)]
pub(super) struct Limiter {
    quota: Quota,
    began: Instant,
    hasher: RandomState,
    /// For each cell, the time at which its quota is fully restored, in nanoseconds since `began`.
    cells: Box<[AtomicU64]>,
}

impl Limiter {
    pub(super) fn new(quota: Quota) -> Self {
        Self {
            quota,
            began: Instant::now(),
            hasher: RandomState::new(),
            cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The part of the quota that one request uses, in nanoseconds.
    fn cost(&self) -> u64 {
        1_000_000_000 / u64::from(self.quota.per_second)
    }

    fn capacity(&self) -> u64 {
        self.cost() * u64::from(self.quota.burst)
    }

    fn cell(&self, key: impl Hash) -> &AtomicU64 {
        let hash = self.hasher.hash_one(key);
        // The remainder is smaller than the number of cells.
        &self.cells[usize::try_from(hash % CELLS as u64).unwrap_or(0)]
    }

    /// Decides about a request of `key` now. A rejected request uses no quota.
    pub(super) fn check(&self, key: impl Hash) -> Decision {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.check_at(key, now)
    }

    /// Decides about a request at `now`, in nanoseconds since `began`.
    fn check_at(&self, key: impl Hash, now: u64) -> Decision {
        let (cost, capacity) = (self.cost(), self.capacity());
        let used = |restored_at: u64| restored_at.saturating_sub(now);
        let change =
            self.cell(key)
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |restored_at| {
                    let after = used(restored_at) + cost;
                    (after <= capacity).then_some(now + after)
                });
        let (is_allowed, used) = match change {
            Ok(before) => (true, used(before) + cost),
            Err(unchanged) => (false, used(unchanged)),
        };
        Decision {
            is_allowed,
            limit: self.quota.burst,
            remaining: capacity.saturating_sub(used) / cost,
            reset: Duration::from_nanos(used),
            retry_after: Duration::from_nanos((used + cost).saturating_sub(capacity)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limiter() -> Limiter {
        Limiter::new(Quota {
            per_second: 50,
            burst: 200,
        })
    }

    fn count_allowed(limiter: &Limiter, requests: u32, now: u64) -> usize {
        (0..requests)
            .filter(|_| limiter.check_at("caller", now).is_allowed)
            .count()
    }

    #[test]
    fn burst_is_allowed_and_then_the_rate() {
        let limiter = limiter();
        assert_eq!(count_allowed(&limiter, 400, 0), 200);
        assert_eq!(count_allowed(&limiter, 400, SECOND), 50);
        assert_eq!(count_allowed(&limiter, 400, SECOND + SECOND / 2), 25);
        assert_eq!(count_allowed(&limiter, 400, 1000 * SECOND), 200);
    }

    #[test]
    fn decision_has_the_remaining_quota_and_the_times_to_wait() {
        let limiter = limiter();
        let first = limiter.check_at("caller", 0);
        assert_eq!((first.is_allowed, first.remaining), (true, 199));
        assert_eq!(first.reset, Duration::from_millis(20));
        count_allowed(&limiter, 199, 0);
        let rejected = limiter.check_at("caller", 0);
        assert_eq!((rejected.is_allowed, rejected.remaining), (false, 0));
        assert_eq!(rejected.retry_after, Duration::from_millis(20));
        assert_eq!(rejected.reset, Duration::from_secs(4));
    }

    #[test]
    fn burst_from_many_threads_is_as_large_as_from_one() {
        let limiter = limiter();
        let counts: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| count_allowed(&limiter, 100, 0)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(counts.into_iter().sum::<usize>(), 200);
    }

    #[test]
    fn callers_rarely_share_a_cell() {
        let limiter = limiter();
        for n in 0..1000 {
            while limiter.check_at(n, 0).is_allowed {}
        }
        let rejected = (1000..2000)
            .filter(|n| !limiter.check_at(*n, 0).is_allowed)
            .count();
        // 1,000 of 65,536 cells are full: about 15 of 1,000 callers share one of them.
        assert!(rejected < 60, "{rejected}");
    }
}
