//! Bearer authentication of requests.

use axum::http::{HeaderMap, header};

use crate::{
    auth::Authenticator,
    domain::Roles,
    http::error::{ApiError, ErrorCode},
};

/// Returns the roles of the token in the `Authorization` header.
///
/// # Errors
/// [`ErrorCode::Unauthorized`].
pub(crate) async fn authenticate(
    auth: &Authenticator,
    headers: &HeaderMap,
) -> Result<Roles, ApiError> {
    let roles = auth.authenticate(bearer_token(headers)?).await;
    if roles.is_empty() {
        return Err(unauthorized(
            "The token is not valid; ask the operator for a current one.",
        ));
    }
    Ok(roles)
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
