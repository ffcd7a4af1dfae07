//! Tokens and credentials that AWS Secrets Manager keeps: read at the start, read anew from time to time, on SIGHUP, and
//! when somebody presents a token that nobody knows.
//!
//! A rotation refuses nobody: the previous tokens stay valid for a while, and one that was rotated in since the last
//! reading is found by the reading that it causes itself. What cannot be read, or makes no sense, changes nothing.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::{
    Client, error::SdkError, operation::get_secret_value::GetSecretValueError,
};
use secrecy::SecretString;
use thiserror::Error;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Authenticator, Renewal, TokenOfBothRoles, ValidToken, read_tokens},
    aws,
    clock::{Clock, UnixSeconds},
    csp::niosxaas::NiosxaasUser,
    domain::Role,
    shared::{Shared, lock},
    telemetry::{chain, metrics::Metrics},
};

/// Unknown tokens cause no more than one reading in this time.
const SPACING: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The one reason for reading that an operator waits to see in the log.
const SIGHUP: &str = "SIGHUP";

/// The labels that Secrets Manager puts on the two versions that count.
const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";

/// Which secrets are in AWS Secrets Manager, and how they are read.
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
    /// `SECRETS_REFRESH_SEC`: how often they are read again.
    pub refresh: Duration,
    /// `SECRETS_OVERLAP_SEC`: how long after a rotation the previous tokens stay valid.
    pub overlap: Duration,
    /// `SECRETS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
}

impl SecretsConfig {
    /// Whether any secret is there.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.track_tokens.is_some()
            || self.admin_tokens.is_some()
            || self.csp_token.is_some()
            || self.niosxaas.is_some()
    }
}

/// A secret that cannot be used.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Secrets Manager does not give it.
    #[error(
        "the secret {id} cannot be read; check its name, AWS_REGION, the credentials and their right to \
         secretsmanager:GetSecretValue"
    )]
    Unreadable {
        /// Its name or ARN.
        id: String,
        /// Why.
        source: Box<SdkError<GetSecretValueError>>,
    },
    /// It is not what it should be. Its text is not told.
    #[error("the secret {id} must hold {must}")]
    Invalid {
        /// Its name or ARN.
        id: String,
        /// What it should be.
        must: &'static str,
    },
    /// See [`TokenOfBothRoles`].
    #[error("the secret {id} cannot be used")]
    BothRoles {
        /// Its name or ARN.
        id: String,
        /// Why.
        source: TokenOfBothRoles,
    },
}

/// What the secrets are for.
#[derive(Clone, Debug)]
pub(crate) struct CredentialTargets {
    /// Knows the tokens of tracks and admins.
    pub auth: Authenticator,
    /// The CSP API token.
    pub csp_token: Shared<SecretString>,
    /// The NIOSXaaS user.
    pub niosxaas: Shared<NiosxaasUser>,
}

/// Reads the secrets that Secrets Manager keeps, if it keeps any.
#[derive(Debug)]
pub(crate) struct Secrets {
    client: Option<Client>,
    config: SecretsConfig,
    ask: Arc<Notify>,
    read: watch::Sender<Instant>,
    /// For each role the version that is current, and since when.
    current: Mutex<HashMap<Role, (String, UnixSeconds)>>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// A version of a secret.
struct Version {
    id: String,
    text: String,
    created_at: UnixSeconds,
}

impl Secrets {
    /// Connects to nothing yet.
    pub(crate) async fn new(
        config: &SecretsConfig,
        region: &str,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        let client = if config.is_used() {
            Some(connect(config, region).await)
        } else {
            None
        };
        Self {
            client,
            config: config.clone(),
            ask: Arc::default(),
            read: watch::Sender::new(Instant::now()),
            current: Mutex::default(),
            clock,
            metrics,
        }
    }

    /// How to ask for a reading; `None` if there is nothing to read tokens from.
    #[must_use]
    pub(crate) fn renewal(&self) -> Option<Renewal> {
        let keeps_tokens = self.config.track_tokens.is_some() || self.config.admin_tokens.is_some();
        keeps_tokens.then(|| Renewal::new(Arc::clone(&self.ask), self.read.subscribe()))
    }

    /// Reads every secret once and hands it to its holder.
    ///
    /// # Errors
    /// The first [`SecretError`]; the others are read all the same.
    pub(crate) async fn refresh(&self, targets: &CredentialTargets) -> Result<(), SecretError> {
        let Some(client) = &self.client else {
            return Ok(());
        };
        let began = Instant::now();
        let config = &self.config;
        let (track, admin, csp, niosxaas) = tokio::join!(
            self.counted("track_tokens", config.track_tokens.as_ref(), |id| {
                self.read_tokens(client, id, Role::Track, targets)
            }),
            self.counted("admin_tokens", config.admin_tokens.as_ref(), |id| {
                self.read_tokens(client, id, Role::Admin, targets)
            }),
            self.counted("csp_token", config.csp_token.as_ref(), |id| {
                read_csp_token(client, id, targets)
            }),
            self.counted("niosxaas", config.niosxaas.as_ref(), |id| {
                read_niosxaas(client, id, targets)
            }),
        );
        self.read.send_replace(began);
        track.and(admin).and(csp).and(niosxaas)
    }

    async fn counted<'a, F>(
        &self,
        secret: &'static str,
        id: Option<&'a String>,
        read: impl FnOnce(&'a str) -> F,
    ) -> Result<(), SecretError>
    where
        F: Future<Output = Result<(), SecretError>>,
    {
        let Some(id) = id else { return Ok(()) };
        let result = Box::pin(read(id)).await;
        let outcome = match &result {
            Ok(()) => "success",
            Err(error) => {
                tracing::error!(
                    secret,
                    cause = chain(error),
                    "a secret cannot be used; it stays as it was"
                );
                "error"
            }
        };
        self.metrics
            .secret_refreshes
            .with_label_values(&[secret, outcome])
            .inc();
        result
    }

    async fn read_tokens(
        &self,
        client: &Client,
        id: &str,
        role: Role,
        targets: &CredentialTargets,
    ) -> Result<(), SecretError> {
        let (current, previous) =
            tokio::try_join!(get(client, id, CURRENT), get_previous(client, id))?;
        let tokens = |version: &Version, valid_until| -> Result<Vec<_>, SecretError> {
            let tokens = read_tokens(&version.text).map_err(|must| invalid(id, must))?;
            Ok(tokens
                .into_iter()
                .map(|token| ValidToken { token, valid_until })
                .collect())
        };
        let mut valid = tokens(&current, None)?;
        if let Some(previous) = previous {
            let until = self.current_since(role, &current) + self.config.overlap;
            // What was valid once need not be by today's rules; the current tokens count all the same.
            valid.extend(tokens(&previous, Some(until)).unwrap_or_default());
        }
        targets
            .auth
            .replace(role, &valid)
            .map_err(|source| SecretError::BothRoles {
                id: id.to_owned(),
                source,
            })
    }

    /// Since when a version is current: since it was made, as far as anybody knows, but no longer than this process has
    /// known another one. A version may be made long before it is put in force, and an old one may come back.
    fn current_since(&self, role: Role, version: &Version) -> UnixSeconds {
        let mut current = lock(&self.current);
        let since = match current.get(&role) {
            Some((id, since)) if *id == version.id => *since,
            Some(_) => self.clock.now(),
            None => version.created_at,
        };
        current.insert(role, (version.id.clone(), since));
        since
    }

    /// Reads the secrets anew until `stop`: on their interval, on SIGHUP, and when an unknown token asks for it.
    pub(crate) async fn keep_fresh(self, targets: CredentialTargets, stop: CancellationToken) {
        // Also without secrets to read: the signal would end the process if nobody listened.
        let mut hang_up = match signal(SignalKind::hangup()) {
            Ok(hang_up) => hang_up,
            Err(error) => {
                tracing::error!(%error, "cannot listen for SIGHUP");
                return;
            }
        };
        let mut last = Instant::now();
        loop {
            let asked = async {
                self.ask.notified().await;
                sleep_until(last + SPACING).await;
            };
            let reason = tokio::select! {
                () = stop.cancelled() => return,
                _ = hang_up.recv() => SIGHUP,
                () = sleep_until(last + self.config.refresh) => "interval",
                () = asked => "unknown token",
            };
            last = Instant::now();
            // What fails is logged where it fails.
            if self.refresh(&targets).await.is_ok() && self.client.is_some() {
                if reason == SIGHUP {
                    tracing::info!(reason, "read the secrets");
                } else {
                    tracing::debug!(reason, "read the secrets");
                }
            }
        }
    }
}

async fn connect(config: &SecretsConfig, region: &str) -> Client {
    let settings = aws::settings(region, config.endpoint.as_deref()).timeout_config(
        TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT)
            .build(),
    );
    Client::new(&settings.load().await)
}

fn invalid(id: &str, must: &'static str) -> SecretError {
    SecretError::Invalid {
        id: id.to_owned(),
        must,
    }
}

async fn get(client: &Client, id: &str, stage: &str) -> Result<Version, SecretError> {
    let answer = client
        .get_secret_value()
        .secret_id(id)
        .version_stage(stage)
        .send()
        .await
        .map_err(|source| SecretError::Unreadable {
            id: id.to_owned(),
            source: Box::new(source),
        })?;
    Ok(Version {
        id: answer.version_id().unwrap_or_default().to_owned(),
        created_at: UnixSeconds(
            answer
                .created_date()
                .map_or(0, aws_sdk_secretsmanager::primitives::DateTime::secs),
        ),
        text: answer
            .secret_string
            .ok_or_else(|| invalid(id, "a text, not bytes"))?,
    })
}

/// `None` before the first rotation, and after an operator took the label away.
async fn get_previous(client: &Client, id: &str) -> Result<Option<Version>, SecretError> {
    match get(client, id, PREVIOUS).await {
        Ok(version) => Ok(Some(version)),
        Err(SecretError::Unreadable { source, .. })
            if source
                .as_service_error()
                .is_some_and(GetSecretValueError::is_resource_not_found_exception) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn read_csp_token(
    client: &Client,
    id: &str,
    targets: &CredentialTargets,
) -> Result<(), SecretError> {
    let text = get(client, id, CURRENT).await?.text;
    let token = csp_token(&text)
        .ok_or_else(|| invalid(id, "the API token: one line of ASCII characters"))?;
    targets.csp_token.set(token.into());
    Ok(())
}

/// The token in the text of a secret, if it can be the value of a header.
fn csp_token(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|token| !token.is_empty() && is_one_line(token))
}

async fn read_niosxaas(
    client: &Client,
    id: &str,
    targets: &CredentialTargets,
) -> Result<(), SecretError> {
    let text = get(client, id, CURRENT).await?.text;
    let user: NiosxaasUser = serde_json::from_str(&text)
        .map_err(|_| invalid(id, r#"JSON of the form {"email": "…", "password": "…"}"#))?;
    targets.niosxaas.set(user);
    Ok(())
}

/// Whether a text can be the value of a header.
#[must_use]
pub(crate) fn is_one_line(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::arbitrary::{json, text};

    proptest! {
        #[test]
        fn any_secret_is_an_api_token_that_can_be_sent_or_refused(text in text()) {
            if let Some(token) = csp_token(&text) {
                let header = HeaderValue::try_from(["Token ", token].concat());
                prop_assert!(header.is_ok());
                prop_assert_eq!(text.trim(), token);
            }
        }

        #[test]
        fn any_secret_is_tokens_that_can_be_presented_or_refused(text in text()) {
            for token in read_tokens(&text).unwrap_or_default() {
                let token = token.expose_secret();
                prop_assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(text.contains(token) && !token.contains(','));
            }
        }

        #[test]
        fn any_tokens_are_read_as_they_are(tokens in proptest::collection::vec("[!-+--~]{1,99}", 1..5)) {
            let read = read_tokens(&tokens.join(" , ")).unwrap();
            let read: Vec<_> = read.iter().map(|token| token.expose_secret().to_owned()).collect();
            prop_assert_eq!(read, tokens);
        }

        #[test]
        fn any_user_is_read_as_it_is_and_anything_else_refused(email in text(), password in text(), other in json()) {
            let whole = serde_json::json!({ "email": email, "password": password });
            let user: NiosxaasUser = serde_json::from_str(&whole.to_string()).unwrap();
            prop_assert_eq!((user.email, user.password.expose_secret()), (email, password.as_str()));
            let wrong = serde_json::json!({ "email": other, "password": password });
            prop_assert_eq!(serde_json::from_str::<NiosxaasUser>(&wrong.to_string()).is_ok(), other.is_string());
        }
    }
}
