//! Requests of people whom the load balancer has signed in.
//!
//! Their session is a cookie, which a browser also adds to requests that other sites cause. Therefore these requests
//! have to come from pages of this origin.

use axum::http::{Extensions, HeaderMap, HeaderName, Method, Uri, header};

use crate::{
    auth::load_balancer::SignInError,
    domain::Principal,
    http::{
        error::{ApiError, ErrorCode},
        headers::{SEC_FETCH_SITE, SIGNED_IN},
    },
};

/// Marks a request whose principal is a person whom the load balancer has signed in: a request extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignedIn;

/// Marks a request as one of a person whom the load balancer has signed in.
pub(crate) fn mark(extensions: &mut Extensions) {
    extensions.insert(SignedIn);
}

/// Returns whether the principal of a request is a person whom the load balancer has signed in.
#[must_use]
pub(crate) fn is_signed_in(extensions: &Extensions) -> bool {
    extensions.get::<SignedIn>().is_some()
}

/// Returns whether the load balancer signs people in before this path. On every other path it forwards the header as a
/// client has sent it, so there it does not count: nobody has the role `track` by it, and made-up ones cost nothing.
#[must_use]
pub(crate) fn is_for_people(uri: &Uri) -> bool {
    uri.path().starts_with("/admin/")
}

/// Returns the header of the load balancer, if it decides about a request. Beside an `Authorization` header it does not.
///
/// # Errors
/// [`ErrorCode::Unauthorized`] if there is more than one: the load balancer adds exactly one.
pub(crate) fn header_of(headers: &HeaderMap) -> Result<Option<&[u8]>, ApiError> {
    if headers.contains_key(header::AUTHORIZATION) {
        return Ok(None);
    }
    let mut values = headers.get_all(SIGNED_IN).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(rejected("its header is present more than once"));
    }
    Ok(first.map(header::HeaderValue::as_bytes))
}

/// Requires that a person has a role, and that another site cannot have caused their request.
///
/// # Errors
/// [`ErrorCode::Forbidden`].
pub(crate) fn check(
    person: &Principal,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    if !is_same_origin(method, headers) {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            "The request does not come from a page of this broker, so the sign-in at the load balancer does not count; \
             use the dashboard, or send 'Authorization: Bearer <token>'.",
        ));
    }
    if person.roles.is_empty() {
        let message = format!(
            "{} is signed in, but has no role here; ask an operator to add the address or one of your groups to \
             ALB_OIDC_VIEWERS, ALB_OIDC_OPERATORS or ALB_OIDC_ADMINS.",
            person.name
        );
        return Err(ApiError::new(ErrorCode::Forbidden, message));
    }
    Ok(())
}

/// Returns whether no other site can have caused a request. Browsers state it in `Sec-Fetch-Site`, those before 2023
/// only by `Origin`, which they add to every request that may change something. Pages can set neither.
fn is_same_origin(method: &Method, headers: &HeaderMap) -> bool {
    if headers.contains_key(SEC_FETCH_SITE) {
        return match single(headers, &SEC_FETCH_SITE) {
            Some(b"same-origin") => true,
            // The person has entered the URL.
            Some(b"none") => method.is_safe(),
            _ => false,
        };
    }
    let origin =
        single(headers, &header::ORIGIN).and_then(|origin| origin.strip_prefix(b"https://"));
    let is_from_here = origin.is_some() && origin == single(headers, &header::HOST);
    is_from_here || (method.is_safe() && !headers.contains_key(header::ORIGIN))
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

fn rejected(reason: impl std::fmt::Display) -> ApiError {
    let message = format!(
        "The sign-in at the load balancer is not accepted: {reason}. Reload the page, or send 'Authorization: Bearer \
         <token>'."
    );
    ApiError::new(ErrorCode::Unauthorized, message)
}

/// Returns the error for a header that is not the identity of a person.
#[must_use]
pub(crate) fn refusal(error: SignInError) -> ApiError {
    match error {
        SignInError::KeyUnavailable => ErrorCode::SignInUnavailable.into(),
        reason => rejected(reason),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::{arbitrary::header_value, domain::Role};

    fn is_accepted(method: &Method, pairs: &[(&HeaderName, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        is_same_origin(method, &headers)
    }

    #[test]
    fn state_is_changed_only_by_requests_of_this_origin() {
        const HOST: (&HeaderName, &str) = (&header::HOST, "broker.example.com");
        let (site, origin) = (&SEC_FETCH_SITE, &header::ORIGIN);
        for (pairs, reads, changes) in [
            (&[(site, "same-origin")][..], true, true),
            (&[(site, "none")], true, false),
            (&[(site, "cross-site")], false, false),
            (&[(site, "same-site")], false, false),
            (&[(site, "Same-Origin")], false, false),
            (&[(site, "")], false, false),
            (
                &[(site, "same-origin"), (site, "same-origin")],
                false,
                false,
            ),
            // The site that the browser states has precedence over the origin.
            (
                &[(site, "cross-site"), (origin, "https://broker.example.com")],
                false,
                false,
            ),
            (&[], true, false),
            (&[(origin, "https://broker.example.com")], true, true),
            (&[(origin, "http://broker.example.com")], false, false),
            (&[(origin, "https://broker.example.com:8443")], false, false),
            (
                &[(origin, "https://broker.example.com.example.org")],
                false,
                false,
            ),
            (&[(origin, "https://example.org")], false, false),
            (&[(origin, "null")], false, false),
            (&[(origin, "")], false, false),
        ] {
            let pairs = [&[HOST], pairs].concat();
            assert_eq!(is_accepted(&Method::GET, &pairs), reads, "{pairs:?}");
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                assert_eq!(is_accepted(&method, &pairs), changes, "{method} {pairs:?}");
            }
        }
        // Without a host, or with two, there is nothing to compare with.
        let page = (origin, "https://broker.example.com");
        assert!(!is_accepted(&Method::POST, &[page]));
        assert!(!is_accepted(&Method::POST, &[HOST, HOST, page]));
    }

    #[test]
    fn person_without_a_role_is_forbidden() {
        let person = |roles| Principal::new("jo@example.com", roles);
        let refused = check(
            &person(crate::domain::Roles::default()),
            &Method::GET,
            &HeaderMap::new(),
        );
        assert_eq!(refused.unwrap_err().code(), ErrorCode::Forbidden);
        assert!(
            check(
                &person(Role::Viewer.into()),
                &Method::GET,
                &HeaderMap::new()
            )
            .is_ok()
        );
    }

    proptest! {
        #[test]
        fn other_origin_is_never_taken_for_this_one(origin in header_value(), host in header_value()) {
            let headers = HeaderMap::from_iter([(header::ORIGIN, origin.clone()), (header::HOST, host.clone())]);
            let is_same = origin.as_bytes() == [b"https://", host.as_bytes()].concat();
            prop_assert_eq!(is_same_origin(&Method::POST, &headers), is_same);
        }

        #[test]
        fn site_stated_by_the_browser_decides(site in header_value()) {
            let is_same = site.as_bytes() == b"same-origin";
            let headers = HeaderMap::from_iter([(SEC_FETCH_SITE, site)]);
            prop_assert_eq!(is_same_origin(&Method::POST, &headers), is_same);
        }
    }
}
