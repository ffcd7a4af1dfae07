//! Rate limits: by address for requests without a valid token, by caller for the others.

mod limiter;
mod token_history;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use self::{
    limiter::{Decision, Limiter},
    token_history::TokenHistory,
};
use super::{auth, client::ClientAddress};
use crate::{
    auth::Authenticator,
    domain::{Principal, Role},
    http::{
        EdgeConfig,
        error::{ApiError, ErrorCode},
        headers::{RATE_LIMIT, RATE_LIMIT_REMAINING, RATE_LIMIT_RESET, caller_text},
    },
    telemetry::metrics::Metrics,
};

/// A sustained rate, and the largest burst above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The number of requests per second that is sustained.
    pub per_second: u32,
    /// The largest number of requests in a burst.
    pub burst: u32,
}

/// The number of cells of a limiter or history, 8 bytes each. With as many active keys as a broker has, two rarely
/// share a cell.
const CELLS: usize = 1 << 16;
/// A wrong token that its address has not used lately counts as this many requests against the quota of the address.
const GUESS_COST: u32 = 200;

/// Paths without a limit: load balancers and Prometheus must always get an answer.
const EXEMPT: [&str; 4] = ["/", "/healthz", "/readyz", "/metrics"];

/// All rate limits. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct RateLimits(Arc<Limits>);

#[derive(Debug)]
struct Limits {
    callers: Limiter,
    addresses: Limiter,
    guesses: Limiter,
    token_history: TokenHistory,
    auth: Authenticator,
    metrics: Metrics,
}

impl RateLimits {
    /// Creates the limits of `config`. Tokens that `auth` knows to be valid have no limit by address.
    #[must_use]
    pub(crate) fn new(config: &EdgeConfig, auth: Authenticator, metrics: Metrics) -> Self {
        Self(Arc::new(Limits {
            callers: Limiter::new(config.per_caller),
            addresses: Limiter::new(config.per_address),
            guesses: Limiter::new(Quota {
                per_second: (config.per_address.per_second / GUESS_COST).max(1),
                burst: (config.per_address.burst / GUESS_COST).max(1),
            }),
            token_history: TokenHistory::new(),
            auth,
            metrics,
        }))
    }

    /// Checks the limit of an authenticated request: that of the caller of a track endpoint, or that of the operators
    /// at an address.
    ///
    /// # Errors
    /// The answer to a rejected request.
    #[expect(
        clippy::result_large_err,
        reason = "the answer is returned to the client as it is"
    )]
    pub(crate) fn check_caller(
        &self,
        request: &Request,
        principal: &Principal,
    ) -> Result<CallerQuota, Response> {
        let limiter = &self.0.callers;
        let caller = if principal.roles.include(Role::Track) {
            caller_text(request.headers())
        } else {
            None
        };
        let address = client(request).map(ClientAddress::network);
        let decision = match caller {
            Some(caller) => limiter.check(caller),
            None => limiter.check((principal.roles.administrative(), address)),
        };
        let quota = CallerQuota(decision);
        if decision.is_allowed {
            Ok(quota)
        } else {
            Err(quota.add_headers(self.reject("caller", decision)))
        }
    }

    /// Counts a guess of an address: credentials that nothing known proves.
    ///
    /// # Errors
    /// The answer to a rejected request.
    #[expect(
        clippy::result_large_err,
        reason = "the answer is returned to the client as it is"
    )]
    pub(crate) fn check_guess(&self, address: Option<ClientAddress>) -> Result<(), Response> {
        let Some(address) = address else {
            return Ok(());
        };
        let decision = self.0.guesses.check(address.network());
        if decision.is_allowed {
            Ok(())
        } else {
            Err(self.reject("address", decision))
        }
    }

    fn reject(&self, limit: &str, decision: Decision) -> Response {
        let metrics = &self.0.metrics;
        metrics.rate_limited.with_label_values(&[limit]).inc();
        let wait = whole_seconds(decision.retry_after).max(1);
        let error = ApiError::from(ErrorCode::RateLimitExceeded).with_retry_after(wait);
        let mut response = error.into_response();
        insert_headers(&mut response, decision);
        response
    }
}

/// The layer that limits by address. It runs before every layer that costs more.
///
/// A request with a valid token is admitted, independent of other clients at its address: the check costs less than the
/// limit. All others have the limit of their address. A wrong token that the address has not used lately is a guess, of
/// which only few are admitted, because each may wait for a refresh of the tokens. A script that repeats one wrong
/// token makes no further guesses, so it is answered that its token is not valid.
pub(crate) async fn limit_addresses(
    State(limits): State<RateLimits>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(address) = client(&request).map(ClientAddress::network) else {
        return next.run(request).await;
    };
    if EXEMPT.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let RateLimits(inner) = &limits;
    if let Some(principal) = auth::known_principal(&inner.auth, request.headers()) {
        request.extensions_mut().insert(principal);
        return next.run(request).await;
    }
    let guess = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(|value| inner.token_history.cell(address, value.as_bytes()))
        .filter(|token| !token.is_recorded());
    if guess.is_some() {
        let decision = inner.guesses.check(address);
        if !decision.is_allowed {
            // The token may just have become valid. The client repeats its request after the refresh.
            auth::request_refresh(&inner.auth, request.headers());
            return limits.reject("address", decision);
        }
    }
    let decision = inner.addresses.check(address);
    if !decision.is_allowed {
        return limits.reject("address", decision);
    }
    if let Some(token) = guess {
        // Before the token is checked, so that a burst of requests with the same token counts as one guess.
        token.record();
    }
    let mut response = next.run(request).await;
    // An authenticated answer has the headers of the caller's limit.
    if response.extensions().get::<Authenticated>().is_none() {
        insert_headers(&mut response, decision);
    }
    response
}

/// Marks answers to requests with a valid token.
#[derive(Clone, Copy, Debug)]
struct Authenticated;

/// The state of a caller's quota.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallerQuota(Decision);

impl CallerQuota {
    /// Adds the rate limit headers to an answer.
    #[must_use]
    pub(crate) fn add_headers(self, mut response: Response) -> Response {
        insert_headers(&mut response, self.0);
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

fn insert_headers(response: &mut Response, decision: Decision) {
    let headers = response.headers_mut();
    headers.insert(RATE_LIMIT, decision.limit.into());
    headers.insert(RATE_LIMIT_REMAINING, decision.remaining.into());
    headers.insert(
        RATE_LIMIT_RESET,
        HeaderValue::from(whole_seconds(decision.reset)),
    );
}
