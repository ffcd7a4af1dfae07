//! Bearer authentication: a layer that tells who calls. What a role may do is for the extractors to say.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::{
    api::error::{ApiError, ErrorCode},
    config::AuthConfig,
};

/// What a token entitles to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The endpoints of tracks.
    Track,
    /// The endpoints of admins.
    Admin,
}

type Fingerprint = [u8; 32];

/// Knows the valid tokens, by fingerprint: comparing those takes the same time whatever the token and its length.
#[derive(Clone, Debug)]
pub struct Authenticator(Arc<[(Fingerprint, Role)]>);

fn fingerprint(token: &str) -> Fingerprint {
    Sha256::digest(token).into()
}

impl Authenticator {
    /// Accepts the tokens of `config`.
    #[must_use]
    pub fn new(config: &AuthConfig) -> Self {
        let of = |tokens: &[SecretString], role| -> Vec<_> {
            tokens
                .iter()
                .map(|token| (fingerprint(token.expose_secret()), role))
                .collect()
        };
        Self(
            [
                of(&config.track_tokens, Role::Track),
                of(&config.admin_tokens, Role::Admin),
            ]
            .concat()
            .into(),
        )
    }

    fn role_of(&self, token: &str) -> Option<Role> {
        let presented = fingerprint(token);
        // Every known token is compared, so the time does not tell which one came close.
        self.0.iter().fold(None, |found, (known, role)| {
            let same: Choice = known.ct_eq(&presented);
            if bool::from(same) { Some(*role) } else { found }
        })
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<Role, ApiError> {
        let refuse = |message: &str| ApiError::new(ErrorCode::Unauthorized, message);
        let value = headers.get(header::AUTHORIZATION).ok_or_else(|| {
            refuse("The Authorization header is missing; send 'Authorization: Bearer <token>'.")
        })?;
        if headers
            .get_all(header::AUTHORIZATION)
            .iter()
            .any(|other| other != value)
        {
            return Err(refuse(
                "The Authorization header is there more than once, with different values.",
            ));
        }
        let value = value
            .to_str()
            .map_err(|_| refuse("The Authorization header is not visible ASCII."))?;
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refuse(
                "The Authorization header has another scheme; send 'Authorization: Bearer <token>'.",
            ));
        }
        self.role_of(token.trim())
            .ok_or_else(|| refuse("The token is not valid; ask the operator for a current one."))
    }
}

/// The layer: refuses a request without a valid token, and notes the role of one that has it.
pub async fn authenticate(
    State(auth): State<Authenticator>,
    mut request: Request,
    next: Next,
) -> Response {
    match auth.authenticate(request.headers()) {
        Ok(role) => {
            request.extensions_mut().insert(role);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}
