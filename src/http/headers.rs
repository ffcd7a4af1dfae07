//! The names of the headers that the API reads and writes.

use axum::http::{HeaderMap, HeaderName};

/// The caller: one value for each play of a lab.
pub(super) const CALLER: &str = "X-Instruqt-Sandbox-ID";
/// The older name of [`CALLER`].
pub(super) const LEGACY_CALLER: &str = "X-Track-ID";
/// The lab.
pub(super) const LAB: &str = "X-Instruqt-Track-ID";
/// The name prefix of the sandboxes that the lab may use.
pub(super) const PREFIX: &str = "X-Sandbox-Name-Prefix";
/// The idempotency key.
pub(super) const KEY: &str = "Idempotency-Key";

/// The request id, in requests and answers.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The addresses that proxies received the request from.
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The size of the largest burst of requests.
pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
/// The requests left in the current burst.
pub(super) const RATE_LIMIT_REMAINING: HeaderName =
    HeaderName::from_static("x-ratelimit-remaining");
/// Seconds until a burst of [`RATE_LIMIT`] requests is possible again.
pub(super) const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// The person whom the load balancer has signed in: a token of the load balancer.
pub(super) const SIGNED_IN: HeaderName = HeaderName::from_static("x-amzn-oidc-data");
/// The relation between the page that sent a request and the broker, as the browser sees it (Fetch Metadata).
pub(super) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Whether the client waits for the end of a job (RFC 7240).
pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The preference that was applied (RFC 7240).
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// In every answer of a broker whose accounts are made up: `simulated`.
pub(super) const CSP_MODE: HeaderName = HeaderName::from_static("x-csp-mode");

/// Returns the caller that a request names, whether or not the name is valid.
#[must_use]
pub(super) fn caller_text(headers: &HeaderMap) -> Option<&[u8]> {
    [CALLER, LEGACY_CALLER]
        .into_iter()
        .filter_map(|name| headers.get(name))
        .map(|value| value.as_bytes().trim_ascii())
        .find(|text| !text.is_empty())
}
