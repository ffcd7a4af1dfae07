//! Secrets in AWS Secrets Manager: tokens and credentials that are read at the start and refreshed while the broker
//! runs.
//!
//! A rotation rejects no client: the previous tokens stay valid for a while, and a token that became valid since the
//! last refresh is found by the refresh that it causes. A secret that cannot be read, or has the wrong form, changes
//! nothing.

mod manager;
mod refresh;
mod text;

use std::time::Duration;

use aws_sdk_secretsmanager::{error::SdkError, operation::get_secret_value::GetSecretValueError};
use secrecy::SecretString;
use thiserror::Error;

pub(crate) use self::{refresh::SecretsRefresher, text::secret_in};
use crate::{auth::Authenticator, csp::session::CspUser, shared::Shared};

/// The secrets that are in AWS Secrets Manager, and how they are read.
#[derive(Clone, Debug)]
pub struct SecretsConfig {
    /// `BROKER_API_TOKEN_SECRET_ID`.
    pub track_tokens: Option<String>,
    /// `BROKER_ADMIN_TOKEN_SECRET_ID`.
    pub admin_tokens: Option<String>,
    /// `CSP_API_TOKEN_SECRET_ID`.
    pub csp_token: Option<String>,
    /// `NIOSXAAS_SECRET_ID`.
    pub niosxaas: Option<String>,
    /// `SECRETS_REFRESH_SEC`: the interval of refreshes.
    pub refresh: Duration,
    /// `SECRETS_OVERLAP_SEC`: how long after a rotation the previous tokens stay valid.
    pub overlap: Duration,
    /// `SECRETS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
}

impl SecretsConfig {
    /// Whether any secret is in Secrets Manager.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.track_tokens.is_some()
            || self.admin_tokens.is_some()
            || self.csp_token.is_some()
            || self.niosxaas.is_some()
    }
}

/// The reason why a secret cannot be used.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Secrets Manager does not return the secret.
    #[error(
        "the secret {id} cannot be read; check its name, AWS_REGION, the credentials and their right to \
         secretsmanager:GetSecretValue"
    )]
    Unreadable {
        /// Its name or ARN.
        id: String,
        /// The cause.
        source: Box<SdkError<GetSecretValueError>>,
    },
    /// The secret has the wrong form. The error does not contain its text.
    #[error("the secret {id} must hold {must}")]
    Invalid {
        /// Its name or ARN.
        id: String,
        /// The form that it must have.
        must: &'static str,
    },
}

impl SecretError {
    fn invalid(id: &str, must: &'static str) -> Self {
        Self::Invalid {
            id: id.to_owned(),
            must,
        }
    }
}

/// The users of the secrets: each refresh replaces the values here.
#[derive(Clone, Debug)]
pub(crate) struct CredentialTargets {
    /// The tokens of tracks and admins.
    pub auth: Authenticator,
    /// The CSP API token.
    pub csp_token: Shared<SecretString>,
    /// The CSP user.
    pub csp_user: Shared<CspUser>,
}

/// Whether a text is valid in a header.
#[must_use]
pub(crate) fn is_one_line(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_control())
}
