//! CORS: the origins whose pages may call the API from a browser.

use std::{fmt, time::Duration};

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::http::headers::{
    PREFER, RATE_LIMIT, RATE_LIMIT_REMAINING, RATE_LIMIT_RESET, X_REQUEST_ID,
};

const CORS_MAX_AGE: Duration = Duration::from_hours(1);

/// The origins whose pages may call the API from a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cors {
    /// These origins; none, if the list is empty.
    Origins(Vec<HeaderValue>),
    /// Any origin.
    Any,
}

impl fmt::Display for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Origins(origins) if origins.is_empty() => f.write_str("(none)"),
            Self::Origins(origins) => {
                let texts: Vec<_> = origins
                    .iter()
                    .map(|origin| origin.to_str().unwrap_or_default())
                    .collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

/// Returns the layer that answers preflight requests; `None` if no origin is allowed.
#[must_use]
pub(crate) fn allow_origins(cors: &Cors) -> Option<CorsLayer> {
    let origins = match cors {
        Cors::Origins(origins) if origins.is_empty() => return None,
        Cors::Origins(origins) => AllowOrigin::list(origins.clone()),
        // Without credentials: pages send the token themselves, in a header.
        Cors::Any => AllowOrigin::any(),
    };
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::IF_MATCH,
                HeaderName::from_static("x-track-id"),
                HeaderName::from_static("x-instruqt-sandbox-id"),
                HeaderName::from_static("x-instruqt-track-id"),
                HeaderName::from_static("x-sandbox-name-prefix"),
                HeaderName::from_static("idempotency-key"),
                PREFER,
            ])
            .expose_headers([
                X_REQUEST_ID,
                RATE_LIMIT,
                RATE_LIMIT_REMAINING,
                RATE_LIMIT_RESET,
                header::RETRY_AFTER,
                header::LOCATION,
                header::ETAG,
            ])
            .max_age(CORS_MAX_AGE),
    )
}
