//! Headers that tell browsers what not to do, on every answer.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use tower_http::set_header::SetResponseHeaderLayer;

/// An API answer is no page: it may load nothing, and nothing may frame it.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// Swagger's page: its own scripts and calls. It brings styles inline and shows icons from `data:` URLs.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                           frame-ancestors 'none'";
/// The dashboard: its own files and calls, nothing inline.
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

fn add(router: Router, name: HeaderName, value: &'static str) -> Router {
    router.layer(SetResponseHeaderLayer::if_not_present(
        name,
        HeaderValue::from_static(value),
    ))
}

/// Adds them to an answer, but for those that it has its own of.
#[must_use]
pub(crate) fn secure(mut answer: Response) -> Response {
    for (name, value) in ON_EVERY_ANSWER {
        let entry = answer.headers_mut().entry(name);
        entry.or_insert(HeaderValue::from_static(value));
    }
    answer
}

/// Lets Swagger's page work. Its files are the same until the broker is another, so a browser may ask whether they are.
pub(crate) fn relax_for_docs(docs: Router) -> Router {
    let docs = add(docs, header::CONTENT_SECURITY_POLICY, DOCS_POLICY);
    add(docs, header::CACHE_CONTROL, "no-cache")
}

/// Lets the dashboard work, likewise.
pub(crate) fn relax_for_dashboard(dashboard: Router) -> Router {
    let dashboard = add(dashboard, header::CONTENT_SECURITY_POLICY, DASHBOARD_POLICY);
    add(dashboard, header::CACHE_CONTROL, "no-cache")
}
