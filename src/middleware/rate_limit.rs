//! Rate limits: per client address before authentication, per caller after it.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::Instant;

use super::{auth::Role, client::ClientAddress};
use crate::{
    api::{
        error::{ApiError, ErrorCode},
        extract::caller_text,
    },
    config::{EdgeConfig, Quota},
    metrics::Metrics,
};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Cells of a limiter, 8 bytes each. Of so many keys at once, hardly two that matter share one.
const CELLS: usize = 1 << 16;
/// What a token that an address has not tried before costs it if it is wrong, in requests.
const GUESS_COST: u32 = 200;

/// What a limiter says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    is_allowed: bool,
    /// Requests that may come at once when nothing came for a while.
    limit: u32,
    /// Requests that may still come at once.
    remaining: u64,
    /// Until all of `limit` may come at once again.
    reset: Duration,
    /// Until one more may come.
    retry_after: Duration,
}

/// The generic cell rate algorithm over a fixed number of cells: whatever keys are sent, memory stays the same. Keys
/// that share a cell share a quota; which do is different in every process, so nobody can choose it.
///
/// The limiters on crates.io keep an entry a key, and none charges what it has already let in.
#[derive(Debug)]
struct Limiter {
    quota: Quota,
    began: Instant,
    hasher: RandomState,
    /// For each, the time at which its quota is whole again, in nanoseconds since `began`.
    cells: Box<[AtomicU64]>,
}

impl Limiter {
    fn new(quota: Quota) -> Self {
        Self {
            quota,
            began: Instant::now(),
            hasher: RandomState::new(),
            cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// What one request takes of the quota, in nanoseconds.
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

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Lets a request in, or not; what is not let in costs nothing.
    fn check(&self, key: impl Hash, now: u64) -> Verdict {
        let (cost, capacity) = (self.cost(), self.capacity());
        let taken = |whole_at: u64| whole_at.saturating_sub(now);
        let change =
            self.cell(key)
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |whole_at| {
                    let after = taken(whole_at) + cost;
                    (after <= capacity).then_some(now + after)
                });
        let (is_allowed, taken) = match change {
            Ok(before) => (true, taken(before) + cost),
            Err(unchanged) => (false, taken(unchanged)),
        };
        Verdict {
            is_allowed,
            limit: self.quota.burst,
            remaining: capacity.saturating_sub(taken) / cost,
            reset: Duration::from_nanos(taken),
            retry_after: Duration::from_nanos((taken + cost).saturating_sub(capacity)),
        }
    }

    /// Takes so many requests from what is left, or all that is left.
    fn charge(&self, key: impl Hash, requests: u32, now: u64) {
        let (cost, capacity) = (self.cost() * u64::from(requests), self.capacity());
        let _ = self
            .cell(key)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |whole_at| {
                let after = whole_at.saturating_sub(now) + cost;
                Some(now + after.min(capacity))
            });
    }
}

/// Wrong tokens that were presented lately, so that a script with one wrong token is not taken for somebody who guesses.
#[derive(Debug)]
struct Guesses {
    hasher: RandomState,
    cells: Box<[AtomicU64]>,
}

impl Guesses {
    fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether this is another token than the last ones from there; notes it.
    fn is_new(&self, from: impl Hash, credentials: &[u8]) -> bool {
        let hash = self.hasher.hash_one((from, credentials));
        // The remainder is smaller than the number of cells.
        let cell = &self.cells[usize::try_from(hash % CELLS as u64).unwrap_or(0)];
        cell.swap(hash, Ordering::Relaxed) != hash
    }
}

/// Both limits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RateLimits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    callers: Limiter,
    addresses: Limiter,
    guesses: Guesses,
    metrics: Metrics,
}

impl RateLimits {
    /// The limits of `config`.
    #[must_use]
    pub fn new(config: &EdgeConfig, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            callers: Limiter::new(config.per_caller),
            addresses: Limiter::new(config.per_address),
            guesses: Guesses::new(),
            metrics,
        }))
    }
}

/// The layer in front of authentication. A refused token that was not tried before costs as much as [`GUESS_COST`]
/// requests, so guessing is slow, and a class with valid tokens behind one address is not in its way.
pub async fn limit_addresses(
    State(limits): State<RateLimits>,
    request: Request,
    next: Next,
) -> Response {
    let limiter = &limits.0.addresses;
    let Some(from) = client(&request).map(ClientAddress::network) else {
        return next.run(request).await;
    };
    let verdict = limiter.check(from, limiter.now());
    if !verdict.is_allowed {
        limits
            .0
            .metrics
            .rate_limited
            .with_label_values(&["address"])
            .inc();
        return refuse(verdict);
    }
    let credentials = request.headers().get(header::AUTHORIZATION).cloned();
    let mut response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED {
        if credentials.is_some_and(|value| limits.0.guesses.is_new(from, value.as_bytes())) {
            limiter.charge(from, GUESS_COST - 1, limiter.now());
        }
        describe(&mut response, verdict);
    }
    response
}

/// The layer behind authentication: a quota for each caller of the track endpoints, and one for the admins behind an
/// address.
pub async fn limit_callers(
    State(limits): State<RateLimits>,
    request: Request,
    next: Next,
) -> Response {
    let limiter = &limits.0.callers;
    let role = request.extensions().get::<Role>().copied();
    let caller = match role {
        Some(Role::Track) => caller_text(request.headers()),
        _ => None,
    };
    let from = client(&request).map(ClientAddress::network);
    let verdict = match caller {
        Some(caller) => limiter.check(caller, limiter.now()),
        None => limiter.check((role == Some(Role::Admin), from), limiter.now()),
    };
    let mut response = if verdict.is_allowed {
        next.run(request).await
    } else {
        limits
            .0
            .metrics
            .rate_limited
            .with_label_values(&["caller"])
            .inc();
        return refuse(verdict);
    };
    describe(&mut response, verdict);
    response
}

fn client(request: &Request) -> Option<ClientAddress> {
    request.extensions().get().copied()
}

fn whole_seconds(span: Duration) -> u64 {
    span.as_millis()
        .div_ceil(1000)
        .try_into()
        .unwrap_or(u64::MAX)
}

fn refuse(verdict: Verdict) -> Response {
    let wait = whole_seconds(verdict.retry_after).max(1);
    let error = ApiError::from(ErrorCode::RateLimitExceeded).with_retry_after(wait);
    let mut response = error.into_response();
    describe(&mut response, verdict);
    response
}

fn describe(response: &mut Response, verdict: Verdict) {
    let headers = response.headers_mut();
    headers.insert(LIMIT, verdict.limit.into());
    headers.insert(REMAINING, verdict.remaining.into());
    headers.insert(RESET, HeaderValue::from(whole_seconds(verdict.reset)));
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

    fn let_in(limiter: &Limiter, requests: u32, now: u64) -> usize {
        (0..requests)
            .filter(|_| limiter.check("caller", now).is_allowed)
            .count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limiter = limiter();
        assert_eq!(let_in(&limiter, 400, 0), 200);
        assert_eq!(let_in(&limiter, 400, SECOND), 50);
        assert_eq!(let_in(&limiter, 400, SECOND + SECOND / 2), 25);
        assert_eq!(let_in(&limiter, 400, 1000 * SECOND), 200);
    }

    #[test]
    fn a_verdict_says_what_is_left_and_when_there_is_more() {
        let limiter = limiter();
        let first = limiter.check("caller", 0);
        assert_eq!((first.is_allowed, first.remaining), (true, 199));
        assert_eq!(first.reset, Duration::from_millis(20));
        let_in(&limiter, 199, 0);
        let refused = limiter.check("caller", 0);
        assert_eq!((refused.is_allowed, refused.remaining), (false, 0));
        assert_eq!(refused.retry_after, Duration::from_millis(20));
        assert_eq!(refused.reset, Duration::from_secs(4));
    }

    #[test]
    fn a_charge_may_take_all_that_is_left_but_no_more() {
        let limiter = limiter();
        limiter.charge("caller", 150, 0);
        assert_eq!(let_in(&limiter, 100, 0), 50);
        limiter.charge("caller", 100_000, 0);
        assert_eq!(let_in(&limiter, 400, 4 * SECOND), 200);
    }

    #[test]
    fn a_burst_from_many_threads_lets_in_as_many_as_one_from_one() {
        let limiter = limiter();
        let counts: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| let_in(&limiter, 100, 0)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(counts.into_iter().sum::<usize>(), 200);
    }

    #[test]
    fn a_caller_is_hardly_disturbed_by_others() {
        let limiter = limiter();
        for n in 0..1000 {
            limiter.charge(n, 1_000_000, 0);
        }
        let disturbed = (1000..2000)
            .filter(|n| !limiter.check(*n, 0).is_allowed)
            .count();
        // 1,000 of 65,536 cells are full: about 15 of 1,000.
        assert!(disturbed < 60, "{disturbed}");
    }

    #[test]
    fn the_same_wrong_token_again_is_no_guess() {
        let guesses = Guesses::new();
        assert!(guesses.is_new(1, b"Bearer old"));
        assert!(!guesses.is_new(1, b"Bearer old"));
        assert!(guesses.is_new(1, b"Bearer new"));
        assert!(guesses.is_new(2, b"Bearer old"));
    }
}
