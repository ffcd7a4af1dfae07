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
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::Instant;

use super::client::ClientAddress;
use crate::{
    domain::Role,
    http::{
        EdgeConfig,
        error::{ApiError, ErrorCode},
        headers::{RATE_LIMIT, RATE_LIMIT_REMAINING, RATE_LIMIT_RESET, caller_text},
    },
    telemetry::metrics::Metrics,
};

/// A rate that lasts, and what may come at once before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests a second.
    pub per_second: u32,
    /// Requests at once.
    pub burst: u32,
}

/// Cells of a limiter, 8 bytes each. Of so many keys at once, hardly two that matter share one.
const CELLS: usize = 1 << 16;
/// A token that an address has not tried before counts as so many requests.
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
}

/// Which tokens an address has tried lately, and which of them were right. What it tries again tells it nothing new.
#[derive(Debug)]
struct Tried {
    hasher: RandomState,
    /// For each token a hash; its last bit says whether it was right. 0 for none.
    cells: Box<[AtomicU64]>,
}

/// What is known of a token from an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenHistory {
    Right,
    Wrong,
    No,
}

/// Where a token is noted.
struct Note<'a> {
    cell: &'a AtomicU64,
    hash: u64,
}

impl Tried {
    fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn note(&self, from: impl Hash, credentials: &[u8]) -> Note<'_> {
        let hash = self.hasher.hash_one((from, credentials)) & !1;
        // The remainder is smaller than the number of cells.
        let cell = &self.cells[usize::try_from((hash >> 1) % CELLS as u64).unwrap_or(0)];
        Note { cell, hash }
    }
}

impl Note<'_> {
    fn read(&self) -> TokenHistory {
        match self.cell.load(Ordering::Relaxed) ^ self.hash {
            0 => TokenHistory::Wrong,
            1 => TokenHistory::Right,
            _ => TokenHistory::No,
        }
    }

    fn write(&self, is_right: bool) {
        self.cell
            .store(self.hash | u64::from(is_right), Ordering::Relaxed);
    }
}

/// Both limits. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct RateLimits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    callers: Limiter,
    addresses: Limiter,
    guesses: Limiter,
    tried: Tried,
    metrics: Metrics,
}

impl RateLimits {
    /// The limits of `config`.
    #[must_use]
    pub(crate) fn new(config: &EdgeConfig, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            callers: Limiter::new(config.per_caller),
            addresses: Limiter::new(config.per_address),
            guesses: Limiter::new(Quota {
                per_second: (config.per_address.per_second / GUESS_COST).max(1),
                burst: (config.per_address.burst / GUESS_COST).max(1),
            }),
            tried: Tried::new(),
            metrics,
        }))
    }
}

/// Open to all, whatever they sent before: load balancers and Prometheus must always get an answer.
const EXEMPT: [&str; 4] = ["/", "/healthz", "/readyz", "/metrics"];

/// The layer in front of authentication.
///
/// A token that was right from this address before passes: whatever others there do, a class is not in their way. Any
/// other token that it has not tried lately is a guess, right or wrong, and is let in at a slow rate before anybody
/// looks at it. A script that repeats one wrong token is no guesser.
pub(crate) async fn limit_addresses(
    State(limits): State<RateLimits>,
    request: Request,
    next: Next,
) -> Response {
    let Some(from) = client(&request).map(ClientAddress::network) else {
        return next.run(request).await;
    };
    if EXEMPT.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let inner = &*limits.0;
    let note = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(|value| inner.tried.note(from, value.as_bytes()));
    let known = note.as_ref().map_or(TokenHistory::Wrong, Note::read);
    if known == TokenHistory::Right {
        let response = next.run(request).await;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(note) = &note
        {
            note.write(false);
        }
        return response;
    }
    if known == TokenHistory::No {
        let verdict = inner.guesses.check(from, inner.guesses.now());
        if !verdict.is_allowed {
            return limits.refuse("address", verdict);
        }
    }
    let verdict = inner.addresses.check(from, inner.addresses.now());
    if !verdict.is_allowed {
        return limits.refuse("address", verdict);
    }
    if let Some(note) = note.as_ref().filter(|_| known == TokenHistory::No) {
        // Before it is looked at, so that a class that comes at once makes one guess.
        note.write(false);
    }
    let mut response = next.run(request).await;
    // Behind authentication the caller's limit tells of itself.
    let is_authenticated = response.extensions().get::<Authenticated>().is_some();
    if let Some(note) = note.filter(|_| is_authenticated) {
        note.write(true);
    }
    if !is_authenticated {
        describe(&mut response, verdict);
    }
    response
}

/// Marks answers to requests that had a valid token.
#[derive(Clone, Copy, Debug)]
struct Authenticated;

/// What is left of a caller's quota.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallerQuota(Verdict);

impl CallerQuota {
    /// Tells of it in an answer.
    #[must_use]
    pub(crate) fn tell(self, mut response: Response) -> Response {
        describe(&mut response, self.0);
        response.extensions_mut().insert(Authenticated);
        response
    }
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

impl RateLimits {
    /// Takes a request off the quota, of the caller of a track endpoint or of the admins behind an address, or refuses it.
    ///
    /// # Errors
    /// The refusal.
    #[expect(clippy::result_large_err, reason = "it is answered as it is")]
    pub(crate) fn check_caller(
        &self,
        request: &Request,
        role: Role,
    ) -> Result<CallerQuota, Response> {
        let limiter = &self.0.callers;
        let caller = match role {
            Role::Track => caller_text(request.headers()),
            Role::Admin => None,
        };
        let from = client(request).map(ClientAddress::network);
        let verdict = match caller {
            Some(caller) => limiter.check(caller, limiter.now()),
            None => limiter.check((role == Role::Admin, from), limiter.now()),
        };
        let quota = CallerQuota(verdict);
        if verdict.is_allowed {
            Ok(quota)
        } else {
            Err(quota.tell(self.refuse("caller", verdict)))
        }
    }

    fn refuse(&self, limit: &str, verdict: Verdict) -> Response {
        let metrics = &self.0.metrics;
        metrics.rate_limited.with_label_values(&[limit]).inc();
        let wait = whole_seconds(verdict.retry_after).max(1);
        let error = ApiError::from(ErrorCode::RateLimitExceeded).with_retry_after(wait);
        let mut response = error.into_response();
        describe(&mut response, verdict);
        response
    }
}

fn describe(response: &mut Response, verdict: Verdict) {
    let headers = response.headers_mut();
    headers.insert(RATE_LIMIT, verdict.limit.into());
    headers.insert(RATE_LIMIT_REMAINING, verdict.remaining.into());
    headers.insert(
        RATE_LIMIT_RESET,
        HeaderValue::from(whole_seconds(verdict.reset)),
    );
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
            while limiter.check(n, 0).is_allowed {}
        }
        let disturbed = (1000..2000)
            .filter(|n| !limiter.check(*n, 0).is_allowed)
            .count();
        // 1,000 of 65,536 cells are full: about 15 of 1,000.
        assert!(disturbed < 60, "{disturbed}");
    }

    #[test]
    fn a_token_is_known_from_where_it_was_tried() {
        let tried = Tried::new();
        let note = tried.note(1, b"Bearer old");
        assert_eq!(note.read(), TokenHistory::No);
        note.write(false);
        assert_eq!(tried.note(1, b"Bearer old").read(), TokenHistory::Wrong);
        note.write(true);
        assert_eq!(tried.note(1, b"Bearer old").read(), TokenHistory::Right);
        assert_eq!(tried.note(1, b"Bearer new").read(), TokenHistory::No);
        assert_eq!(tried.note(2, b"Bearer old").read(), TokenHistory::No);
    }
}
