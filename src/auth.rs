//! Authentication: the valid bearer tokens, those of the environment and named ones, and their principals.

pub(crate) mod named_tokens;
pub(crate) mod refresh;
mod token_format;

pub(crate) mod load_balancer;

pub(crate) use self::token_format::is_named;

use std::{
    collections::HashSet,
    sync::{Arc, RwLock},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use self::{named_tokens::NamedTokens, refresh::RefreshRequest};
use crate::{
    clock::Clock,
    domain::{Principal, Role, Roles},
    shared::{read, write},
    store::TokenFingerprint as Fingerprint,
};

/// A variable of the environment, or a secret in its place, that holds tokens. Its tokens are one principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenVariable {
    /// `BROKER_API_TOKEN`.
    Track,
    /// `BROKER_ADMIN_TOKEN`.
    Admin,
}

impl TokenVariable {
    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Track => "BROKER_API_TOKEN",
            Self::Admin => "BROKER_ADMIN_TOKEN",
        }
    }

    /// Returns the role of its tokens.
    #[must_use]
    pub const fn role(self) -> Role {
        match self {
            Self::Track => Role::Track,
            Self::Admin => Role::Admin,
        }
    }
}

/// The names of the principals of the environment's tokens.
const ENV_TRACK: &str = "env-track";
const ENV_ADMIN: &str = "env-admin";

/// The default of `BROKER_API_TOKEN`, for laptops.
pub(crate) const DEFAULT_TRACK_TOKEN: &str = "dev-track-token";
/// The default of `BROKER_ADMIN_TOKEN`, for laptops.
pub(crate) const DEFAULT_ADMIN_TOKEN: &str = "dev-admin-token";

/// Public tokens, which everybody knows: those above, the defaults of the FastAPI service, and those of its examples.
const PUBLIC_TOKENS: [&str; 8] = [
    DEFAULT_TRACK_TOKEN,
    DEFAULT_ADMIN_TOKEN,
    "dev_token_change_me",
    "admin_token_change_me",
    "your_track_token_here",
    "your_admin_token_here",
    "dev_token_local",
    "admin_token_local",
];

/// Returns whether a token is public: in the source of this broker or of the FastAPI service.
pub(crate) fn is_public(token: &str) -> bool {
    PUBLIC_TOKENS.contains(&token)
}

/// The form of a list of tokens.
pub(crate) const TOKENS: &str =
    "one or more tokens of visible ASCII characters, separated by commas";

/// The tokens of the environment.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// `BROKER_API_TOKEN`; empty if the tokens are in Secrets Manager.
    pub track_tokens: Vec<SecretString>,
    /// `BROKER_ADMIN_TOKEN`; empty if the tokens are in Secrets Manager.
    pub admin_tokens: Vec<SecretString>,
}

/// A token with its expiry.
#[derive(Clone, Debug)]
pub struct ValidToken {
    /// The token.
    pub token: SecretString,
    /// The expiry, as a time of [`Clock::monotonic`]; `None` for a token without an expiry.
    pub valid_until: Option<Duration>,
}

/// A valid token, stored as its fingerprint: the comparison of fingerprints takes the same time for tokens of any
/// length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownToken {
    variable: TokenVariable,
    fingerprint: Fingerprint,
    valid_until: Option<Duration>,
}

/// The valid tokens. Cheap to clone; all clones share them.
#[derive(Clone, Debug)]
pub struct Authenticator {
    known: Arc<RwLock<Vec<KnownToken>>>,
    env_track: Arc<str>,
    env_admin: Arc<str>,
    named: NamedTokens,
    /// Refreshes the tokens of the environment, if they are in Secrets Manager.
    env_refresh: Option<RefreshRequest>,
    named_refresh: RefreshRequest,
    clock: Arc<dyn Clock>,
}

fn fingerprint(token: &str) -> Fingerprint {
    Sha256::digest(token).into()
}

impl Authenticator {
    /// Creates an authenticator that accepts the tokens of `config` and the `named` ones. An unknown token causes a
    /// refresh: it may just have been created, or a rotation may have made it valid.
    #[must_use]
    pub fn new(
        config: &AuthConfig,
        env_refresh: Option<RefreshRequest>,
        named: NamedTokens,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let of = |tokens: &[SecretString], variable| -> Vec<_> {
            tokens
                .iter()
                .map(|token| KnownToken {
                    variable,
                    fingerprint: fingerprint(token.expose_secret()),
                    valid_until: None,
                })
                .collect()
        };
        let known = [
            of(&config.track_tokens, TokenVariable::Track),
            of(&config.admin_tokens, TokenVariable::Admin),
        ];
        Self {
            known: Arc::new(RwLock::new(known.concat())),
            env_track: ENV_TRACK.into(),
            env_admin: ENV_ADMIN.into(),
            env_refresh,
            named_refresh: named.refresh_request(),
            named,
            clock,
        }
    }

    /// Replaces the tokens of a variable. Returns whether one of them is also a token of another variable.
    pub fn replace(&self, variable: TokenVariable, tokens: &[ValidToken]) -> bool {
        let replacements = tokens.iter().map(|token| KnownToken {
            variable,
            fingerprint: fingerprint(token.token.expose_secret()),
            valid_until: token.valid_until,
        });
        let mut known = write(&self.known);
        known.retain(|token| token.variable != variable);
        let others: HashSet<_> = known.iter().map(|token| token.fingerprint).collect();
        known.extend(replacements);
        known
            .iter()
            .any(|token| token.variable == variable && others.contains(&token.fingerprint))
    }

    /// Returns the principal of a token that is known to be valid. Takes about a microsecond, and the same time for every
    /// token of the same length.
    #[must_use]
    pub fn principal_of(&self, token: &str) -> Option<Principal> {
        let fingerprint = fingerprint(token);
        let roles = self.env_roles(&fingerprint);
        if roles.is_empty() {
            return self
                .named
                .principal_of(token_format::id_of(token)?, &fingerprint);
        }
        let name = if roles.administrative().is_some() {
            &self.env_admin
        } else {
            &self.env_track
        };
        Some(Principal::new(Arc::clone(name), roles))
    }

    /// Returns the roles of a token of the environment.
    fn env_roles(&self, presented: &Fingerprint) -> Roles {
        let now = self.clock.monotonic();
        let known = read(&self.known);
        // Every token is compared, so that the time reveals nothing about them.
        known.iter().fold(Roles::default(), |found, token| {
            let same: Choice = token.fingerprint.ct_eq(presented);
            let is_valid = token.valid_until.is_none_or(|until| now < until);
            if bool::from(same) && is_valid {
                found.with(token.variable.role())
            } else {
                found
            }
        })
    }

    /// Returns the principal of a token after a refresh of the tokens. A text that only looks like a named token causes
    /// none.
    pub async fn principal_after_refresh(&self, token: &str) -> Option<Principal> {
        if let Some(refresh) = self.refresh_for(token) {
            refresh.wait().await;
        }
        self.principal_of(token)
    }

    /// Requests a refresh of the tokens that `token` may be one of, without waiting for it.
    pub fn request_refresh(&self, token: &str) {
        if let Some(refresh) = self.refresh_for(token) {
            refresh.send();
        }
    }

    fn refresh_for(&self, token: &str) -> Option<&RefreshRequest> {
        if token_format::id_of(token).is_some() {
            Some(&self.named_refresh)
        } else if is_named(token) {
            None
        } else {
            self.env_refresh.as_ref()
        }
    }

    /// Returns the named tokens.
    #[must_use]
    pub const fn named(&self) -> &NamedTokens {
        &self.named
    }
}

/// Reads tokens separated by commas.
///
/// # Errors
/// [`TOKENS`].
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
        return Err(TOKENS);
    }
    Ok(tokens.into_iter().map(SecretString::from).collect())
}

/// Reads the tokens in the text of a secret: separated by commas, none of them public.
///
/// # Errors
/// The form that the text must have.
pub(crate) fn read_tokens(text: &str) -> Result<Vec<SecretString>, &'static str> {
    let tokens = parse_tokens(text)?;
    if tokens.iter().any(|token| is_public(token.expose_secret())) {
        return Err("tokens of your own, not those of the source");
    }
    Ok(tokens)
}
