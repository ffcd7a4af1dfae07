//! Bearer authentication of requests.

use axum::http::{HeaderMap, header};

use crate::{
    auth::{Authenticator, is_public},
    domain::Principal,
    http::error::{ApiError, ErrorCode},
    url::is_loopback_url,
};

/// Returns the principal of the token in the `Authorization` header, if it is known to be valid.
#[must_use]
pub(crate) fn known_principal(auth: &Authenticator, headers: &HeaderMap) -> Option<Principal> {
    let token = bearer_token(headers).ok()?;
    let principal = auth.principal_of(token)?;
    is_accepted_here(token, headers).then_some(principal)
}

/// Returns the principal of a token that was not known to be valid when the request arrived. A rotation may just have
/// made it valid, so the tokens are refreshed first.
///
/// # Errors
/// [`ErrorCode::Unauthorized`].
pub(crate) async fn principal_after_refresh(
    auth: &Authenticator,
    headers: &HeaderMap,
) -> Result<Principal, ApiError> {
    let token = bearer_token(headers)?;
    if !is_accepted_here(token, headers) {
        return Err(unauthorized(
            "A token that everybody knows is valid at http://localhost and http://127.0.0.1 only, and not for pages of \
             other origins. Set BROKER_API_TOKEN and BROKER_ADMIN_TOKEN to tokens of your own.",
        ));
    }
    auth.principal_after_refresh(token)
        .await
        .ok_or_else(|| unauthorized("The token is not valid; ask the operator for a current one."))
}

/// Requests a refresh of the tokens, without waiting for it.
pub(crate) fn request_refresh(auth: &Authenticator, headers: &HeaderMap) {
    if let Ok(token) = bearer_token(headers) {
        auth.request_refresh(token);
    }
}

/// Returns whether a token, if it is valid, is accepted in a request with these headers.
fn is_accepted_here(token: &str, headers: &HeaderMap) -> bool {
    !is_public(token) || is_for_this_machine(headers)
}

/// Returns whether a request is addressed to a loopback address and, if a web page sent it, the page is from one too.
///
/// Public tokens are known to everybody, and any page in a browser on this machine reaches loopback addresses: with
/// `CORS_ALLOWED_ORIGINS=*`, or under a name of its own that it makes resolve to 127.0.0.1. The headers `Origin` and
/// `Host` reveal it; pages cannot set them.
fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let are_loopback = |name, scheme| {
        headers.get_all(name).iter().all(|value| {
            let text = value.to_str().unwrap_or_default();
            is_loopback_url(&format!("{scheme}{text}"))
        })
    };
    are_loopback(header::HOST, "http://") && are_loopback(header::ORIGIN, "")
}

fn unauthorized(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Unauthorized, message)
}

fn bearer_token(headers: &HeaderMap) -> Result<&str, ApiError> {
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| {
        unauthorized("The Authorization header is missing; send 'Authorization: Bearer <token>'.")
    })?;
    if headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .any(|other| other != value)
    {
        return Err(unauthorized(
            "The Authorization header is present more than once, with different values.",
        ));
    }
    let value = value
        .to_str()
        .map_err(|_| unauthorized("The Authorization header is not visible ASCII."))?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthorized(
            "The Authorization header uses another scheme; send 'Authorization: Bearer <token>'.",
        ));
    }
    Ok(token.trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::header_value;

    #[test]
    fn request_of_a_page_of_another_origin_or_under_another_name_is_not_for_this_machine() {
        let is_accepted = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            headers.extend(origin.map(|origin| (header::ORIGIN, origin.parse().unwrap())));
            is_for_this_machine(&headers)
        };
        for host in [
            "localhost:8080",
            "127.0.0.1:8080",
            "127.0.0.1",
            "[::1]:8080",
        ] {
            assert!(is_accepted(host, None), "{host}");
            assert!(is_accepted(host, Some("http://localhost:3000")), "{host}");
            for origin in [
                "https://example.com",
                "null",
                "http://127.0.0.1.example.com",
                "",
            ] {
                assert!(!is_accepted(host, Some(origin)), "{host} {origin}");
            }
        }
        for host in [
            "example.com:8080",
            "127.0.0.1.example.com",
            "192.0.2.1:8080",
            "",
            "a b",
        ] {
            assert!(!is_accepted(host, None), "{host}");
        }
        assert!(is_for_this_machine(&HeaderMap::new()));
    }

    #[test]
    fn every_value_of_a_repeated_host_or_origin_counts() {
        for (name, here, elsewhere) in [
            (header::HOST, "localhost:8080", "example.com"),
            (
                header::ORIGIN,
                "http://localhost:3000",
                "https://example.com",
            ),
        ] {
            let is_accepted = |values: [&'static str; 2]| {
                let mut headers = HeaderMap::new();
                for value in values {
                    headers.append(&name, value.parse().unwrap());
                }
                is_for_this_machine(&headers)
            };
            assert!(is_accepted([here, here]), "{name}");
            assert!(!is_accepted([here, elsewhere]), "{name}");
            assert!(!is_accepted([elsewhere, here]), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_authorization_is_a_token_or_unauthorized(values in proptest::collection::vec(header_value(), 0..3)) {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value);
            }
            match bearer_token(&headers) {
                Ok(token) => prop_assert_eq!(token.trim(), token),
                Err(error) => prop_assert_eq!(error.code(), ErrorCode::Unauthorized),
            }
        }

        #[test]
        fn token_is_read_unchanged(token in "[!-~]{1,300}", scheme in "[Bb][Ee][Aa][Rr][Ee][Rr]") {
            let value = format!("{scheme} {token}");
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            prop_assert_eq!(bearer_token(&headers).unwrap(), token);
        }
    }
}
