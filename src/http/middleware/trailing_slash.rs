//! Paths with a slash at their end, which have the route of the path without it.

use axum::{
    Router,
    extract::Request,
    http::{Uri, uri::PathAndQuery},
};
use tower::ServiceExt;

/// Removes slashes at the end of every path before `router` matches it, except of the paths in `kept`. There is no
/// redirect, because clients repeat a redirected POST as GET.
pub(crate) fn trim(router: Router, kept: Vec<String>) -> Router {
    let trimmed = router.map_request(move |mut request: Request| {
        if !kept.iter().any(|path| path == request.uri().path())
            && let Some(uri) = without_slash(request.uri())
        {
            *request.uri_mut() = uri;
        }
        request
    });
    // A layer of the router would run after the route is matched.
    Router::new().fallback_service(trimmed)
}

/// Returns the URI with a path that ends without a slash; `None` if it has such a path already, or would have none.
fn without_slash(uri: &Uri) -> Option<Uri> {
    let path = uri.path().trim_end_matches('/');
    if path.is_empty() || path.len() == uri.path().len() {
        return None;
    }
    let target = uri
        .query()
        .map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_at_the_end_of_a_path_are_removed() {
        for (uri, expected) in [
            ("/v1/allocate/", Some("/v1/allocate")),
            ("/v1/allocate//", Some("/v1/allocate")),
            (
                "/v1/sandboxes/?limit=1&q=/",
                Some("/v1/sandboxes?limit=1&q=/"),
            ),
            ("http://broker/healthz/", Some("http://broker/healthz")),
            ("/v1/sandboxes?q=/", None),
            ("/v1/allocate", None),
            ("/", None),
            ("//", None),
            ("*", None),
        ] {
            let found = without_slash(&uri.parse().unwrap()).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{uri}");
        }
    }
}
