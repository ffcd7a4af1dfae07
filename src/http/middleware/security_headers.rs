//! Security headers for browsers, on every answer.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use tower_http::set_header::SetResponseHeaderLayer;

/// For API answers, which are no pages: nothing may be loaded or framed.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// For the Swagger page: its own scripts and calls, inline styles, and icons from `data:` URLs.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                           frame-ancestors 'none'";
/// For the dashboard: its own files and calls, nothing inline.
const DASHBOARD_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                                connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const ON_EVERY_ANSWER: [(HeaderName, &str); 7] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (header::CONTENT_SECURITY_POLICY, API_POLICY),
    (header::CACHE_CONTROL, "no-store"),
];

fn add_header(router: Router, name: HeaderName, value: &'static str) -> Router {
    router.layer(SetResponseHeaderLayer::if_not_present(
        name,
        HeaderValue::from_static(value),
    ))
}

/// Adds the headers to an answer, except those that it has already.
#[must_use]
pub(crate) fn add_to(mut answer: Response) -> Response {
    for (name, value) in ON_EVERY_ANSWER {
        let entry = answer.headers_mut().entry(name);
        entry.or_insert(HeaderValue::from_static(value));
    }
    answer
}

/// Adds the headers of the Swagger page. Its files change only with the broker, so browsers may cache and revalidate
/// them.
pub(crate) fn for_docs(docs: Router) -> Router {
    let docs = add_header(docs, header::CONTENT_SECURITY_POLICY, DOCS_POLICY);
    add_header(docs, header::CACHE_CONTROL, "no-cache")
}

/// Adds the headers of the dashboard, whose files browsers may also cache and revalidate.
pub(crate) fn for_dashboard(dashboard: Router) -> Router {
    let dashboard = add_header(dashboard, header::CONTENT_SECURITY_POLICY, DASHBOARD_POLICY);
    add_header(dashboard, header::CACHE_CONTROL, "no-cache")
}
