//! Which bearer tokens are valid, and for which role.

use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use crate::{
    clock::{Clock, UnixSeconds},
    domain::Role,
    shared::{read, write},
};

/// How long a request with an unknown token waits for the tokens to be read anew.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(8);

/// What `BROKER_API_TOKEN` is on a laptop.
pub(crate) const DEFAULT_TRACK_TOKEN: &str = "dev-track-token";
/// What `BROKER_ADMIN_TOKEN` is on a laptop.
pub(crate) const DEFAULT_ADMIN_TOKEN: &str = "dev-admin-token";

/// Who may call.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// `BROKER_API_TOKEN`; none if they are in Secrets Manager.
    pub track_tokens: Vec<SecretString>,
    /// `BROKER_ADMIN_TOKEN`; none if they are in Secrets Manager.
    pub admin_tokens: Vec<SecretString>,
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
struct KnownToken {
    role: Role,
    fingerprint: Fingerprint,
    valid_until: Option<UnixSeconds>,
}

/// Knows the valid tokens. Cheap to clone; all clones know the same.
#[derive(Clone, Debug)]
pub struct Authenticator {
    known: Arc<RwLock<Vec<KnownToken>>>,
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
                .map(|token| KnownToken {
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
        let mut known = write(&self.known);
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
            others.push(KnownToken {
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
        let known = read(&self.known);
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

    /// The role of a token; `None` if the token is not valid. An unknown token causes a refresh of the secrets first.
    pub async fn authenticate(&self, token: &str) -> Option<Role> {
        if let Some(role) = self.role_of(token) {
            return Some(role);
        }
        if let Some(renewal) = &self.renewal {
            renewal.wait().await;
        }
        self.role_of(token)
    }
}

/// Tokens with commas between them.
pub(crate) fn parse_tokens(text: &str) -> Result<Vec<SecretString>, &'static str> {
    let tokens: Vec<_> = text
        .split(',')
        .map(str::trim)
        .filter(|token| !token.is_empty())
        .collect();
    let are_plain = tokens
        .iter()
        .all(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
    if tokens.is_empty() || !are_plain {
        return Err("one or more tokens of visible ASCII characters, separated by commas");
    }
    Ok(tokens.into_iter().map(SecretString::from).collect())
}

/// The tokens in the text of a secret: one, or several with commas between them, none of them a default.
///
/// # Errors
/// What the text would have to be.
pub(crate) fn read_tokens(text: &str) -> Result<Vec<SecretString>, &'static str> {
    use secrecy::ExposeSecret;

    let tokens = parse_tokens(text)?;
    let is_default = |token: &SecretString| {
        [DEFAULT_TRACK_TOKEN, DEFAULT_ADMIN_TOKEN].contains(&token.expose_secret())
    };
    if tokens.iter().any(is_default) {
        return Err("tokens of your own, not the default ones");
    }
    Ok(tokens)
}
