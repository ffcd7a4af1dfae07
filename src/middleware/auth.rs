//! Bearer authentication: who calls. What a role may do is for the extractors to say.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use crate::{
    api::error::{ApiError, ErrorCode},
    clock::{Clock, UnixSeconds},
    config::AuthConfig,
};

/// How long a request with an unknown token waits for the tokens to be read anew.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(8);

/// What a token entitles to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The endpoints of tracks.
    Track,
    /// The endpoints of admins.
    Admin,
}

/// A token, and when it ends.
#[derive(Clone, Debug)]
pub struct ValidToken {
    /// The token.
    pub token: SecretString,
    /// `None` if nobody knows.
    pub valid_until: Option<UnixSeconds>,
}

type Fingerprint = [u8; 32];

/// A token is known by its fingerprint: comparing those takes the same time whatever the token and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    role: Role,
    fingerprint: Fingerprint,
    valid_until: Option<UnixSeconds>,
}

/// Knows the valid tokens. Cheap to clone; all clones know the same.
#[derive(Clone, Debug)]
pub struct Authenticator {
    known: Arc<RwLock<Vec<Known>>>,
    renewal: Option<Renewal>,
    clock: Arc<dyn Clock>,
}

/// Asks for the tokens to be read anew, because there is one that nobody knows: it may have been rotated in just now.
#[derive(Clone, Debug)]
pub struct Renewal {
    ask: Arc<Notify>,
    /// When the last reading that is over began.
    read: watch::Receiver<Instant>,
}

impl Renewal {
    /// Asks by `ask`; the readings are told by `read`.
    #[must_use]
    pub const fn new(ask: Arc<Notify>, read: watch::Receiver<Instant>) -> Self {
        Self { ask, read }
    }

    /// Waits for a reading that begins after now.
    async fn wait(&self) {
        let (asked, mut read) = (Instant::now(), self.read.clone());
        self.ask.notify_one();
        // If it takes too long, or nobody reads any more, the tokens are what they were.
        let _ = timeout(RENEWAL_TIMEOUT, read.wait_for(|began| *began >= asked)).await;
    }
}

fn fingerprint(token: &str) -> Fingerprint {
    Sha256::digest(token).into()
}

/// A token would be of both roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token of tracks is a token of admins too")]
pub struct TokenOfBothRoles;

impl Authenticator {
    /// Accepts the tokens of `config`. What it does not know it looks up by `renewal`.
    #[must_use]
    pub fn new(config: &AuthConfig, renewal: Option<Renewal>, clock: Arc<dyn Clock>) -> Self {
        let of = |tokens: &[SecretString], role| -> Vec<_> {
            tokens
                .iter()
                .map(|token| Known {
                    role,
                    fingerprint: fingerprint(token.expose_secret()),
                    valid_until: None,
                })
                .collect()
        };
        let known = [
            of(&config.track_tokens, Role::Track),
            of(&config.admin_tokens, Role::Admin),
        ];
        Self {
            known: Arc::new(RwLock::new(known.concat())),
            renewal,
            clock,
        }
    }

    /// Accepts these tokens for a role, and no others.
    ///
    /// # Errors
    /// [`TokenOfBothRoles`]; then nothing has changed.
    pub fn replace(&self, role: Role, tokens: &[ValidToken]) -> Result<(), TokenOfBothRoles> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let (mut others, _): (Vec<_>, Vec<_>) =
            known.iter().copied().partition(|token| token.role != role);
        for ValidToken { token, valid_until } in tokens {
            let fingerprint = fingerprint(token.expose_secret());
            if others
                .iter()
                .any(|other| other.role != role && other.fingerprint == fingerprint)
            {
                return Err(TokenOfBothRoles);
            }
            others.push(Known {
                role,
                fingerprint,
                valid_until: *valid_until,
            });
        }
        *known = others;
        Ok(())
    }

    fn role_of(&self, token: &str) -> Option<Role> {
        let (presented, now) = (fingerprint(token), self.clock.now());
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        // Every known token is compared, so the time does not tell which one came close.
        known.iter().fold(None, |found, token| {
            let same: Choice = token.fingerprint.ct_eq(&presented);
            let is_valid = token.valid_until.is_none_or(|until| now < until);
            if bool::from(same) && is_valid {
                Some(token.role)
            } else {
                found
            }
        })
    }

    /// The role of who sent these headers.
    ///
    /// # Errors
    /// [`ErrorCode::Unauthorized`].
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Role, ApiError> {
        let token = bearer_token(headers)?;
        if let Some(role) = self.role_of(token) {
            return Ok(role);
        }
        if let Some(renewal) = &self.renewal {
            renewal.wait().await;
        }
        self.role_of(token)
            .ok_or_else(|| refuse("The token is not valid; ask the operator for a current one."))
    }
}

fn refuse(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Unauthorized, message)
}

fn bearer_token(headers: &HeaderMap) -> Result<&str, ApiError> {
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
    Ok(token.trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::header_value;

    proptest! {
        #[test]
        fn any_authorization_is_a_token_or_refused(values in proptest::collection::vec(header_value(), 0..3)) {
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
        fn a_token_is_read_as_it_is(token in "[!-~]{1,300}", scheme in "[Bb][Ee][Aa][Rr][Ee][Rr]") {
            let value = format!("{scheme} {token}");
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            prop_assert_eq!(bearer_token(&headers).unwrap(), token);
        }
    }
}
