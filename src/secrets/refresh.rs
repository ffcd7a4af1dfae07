//! The refresher: reads the secrets at the start, on an interval, on SIGHUP, and for unknown tokens.

use std::{
    borrow::Cow,
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use secrecy::ExposeSecret;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    CredentialTargets, SecretError, SecretsConfig, is_one_line,
    manager::{SecretsManager, Version},
    secret_in,
};
use crate::{
    auth::{
        TokenVariable, ValidToken, read_tokens,
        refresh::{RefreshRequest, RefreshSchedule},
    },
    clock::Clock,
    csp::{self, session::CspUser},
    shared::lock,
    telemetry::{chain, metrics::Metrics},
};

/// The reason of a refresh that is logged at level `info`, because an operator waits for it.
const SIGHUP: &str = "SIGHUP";

/// Reads the secrets that are in Secrets Manager, if any, and passes them to their users.
#[derive(Debug)]
pub(crate) struct SecretsRefresher {
    manager: Option<SecretsManager>,
    config: SecretsConfig,
    schedule: RefreshSchedule,
    /// For each variable, the id of the current version, and until when the previous one is valid, as a time of
    /// [`Clock::monotonic`].
    current: Mutex<HashMap<TokenVariable, (String, Duration)>>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl SecretsRefresher {
    /// Creates the refresher, which reads no secret yet.
    pub(crate) async fn new(
        config: &SecretsConfig,
        region: &str,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        let manager = if config.is_used() {
            Some(SecretsManager::new(config, region).await)
        } else {
            None
        };
        Self {
            manager,
            config: config.clone(),
            schedule: RefreshSchedule::default(),
            current: Mutex::default(),
            clock,
            metrics,
        }
    }

    /// Returns a handle that requests refreshes; `None` if no tokens are in Secrets Manager.
    #[must_use]
    pub(crate) fn refresh_request(&self) -> Option<RefreshRequest> {
        let has_tokens = self.config.track_tokens.is_some() || self.config.admin_tokens.is_some();
        has_tokens.then(|| self.schedule.handle())
    }

    /// Reads every secret once and passes it to its user.
    ///
    /// # Errors
    /// The first [`SecretError`]; the other secrets are refreshed nevertheless.
    pub(crate) async fn refresh(&self, targets: &CredentialTargets) -> Result<(), SecretError> {
        let Some(manager) = &self.manager else {
            return Ok(());
        };
        let began = Instant::now();
        let config = &self.config;
        let (track, admin, csp, niosxaas) = tokio::join!(
            self.refresh_one("track_tokens", config.track_tokens.as_ref(), |id| {
                self.refresh_tokens(manager, id, TokenVariable::Track, targets)
            }),
            self.refresh_one("admin_tokens", config.admin_tokens.as_ref(), |id| {
                self.refresh_tokens(manager, id, TokenVariable::Admin, targets)
            }),
            self.refresh_one("csp_token", config.csp_token.as_ref(), |id| {
                refresh_csp_token(manager, id, targets)
            }),
            self.refresh_one("niosxaas", config.niosxaas.as_ref(), |id| {
                refresh_niosxaas(manager, id, targets)
            }),
        );
        self.schedule.complete(began);
        track.and(admin).and(csp).and(niosxaas)
    }

    /// Refreshes one secret, if it is configured; counts the outcome and logs a failure.
    async fn refresh_one<'a, F>(
        &self,
        secret: &'static str,
        id: Option<&'a String>,
        refresh: impl FnOnce(&'a str) -> F,
    ) -> Result<(), SecretError>
    where
        F: Future<Output = Result<(), SecretError>>,
    {
        let Some(id) = id else { return Ok(()) };
        let result = Box::pin(refresh(id)).await;
        let outcome = match &result {
            Ok(()) => "success",
            Err(error) => {
                tracing::error!(
                    secret,
                    cause = chain(error),
                    "secret refresh failed; the previous value stays in use"
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

    async fn refresh_tokens(
        &self,
        manager: &SecretsManager,
        id: &str,
        variable: TokenVariable,
        targets: &CredentialTargets,
    ) -> Result<(), SecretError> {
        let (current, previous) = tokio::try_join!(manager.current(id), manager.previous(id))?;
        let key = variable.name();
        let tokens = |version: &Version, valid_until| -> Result<Vec<_>, SecretError> {
            let tokens = secret_in(&version.text, key)
                .and_then(|text| read_tokens(&text))
                .map_err(|must| SecretError::invalid(id, must))?;
            Ok(tokens
                .into_iter()
                .map(|token| ValidToken { token, valid_until })
                .collect())
        };
        let mut valid = tokens(&current, None)?;
        if let Some(previous) = previous {
            let until = self.previous_valid_until(variable, &current);
            // A previous version with an invalid form is ignored; the current tokens count nevertheless.
            valid.extend(tokens(&previous, Some(until)).unwrap_or_default());
        }
        if targets.auth.replace(variable, &valid) {
            tracing::warn!(
                secret = id,
                "a track token is also an admin token: every lab script has the rights of an admin"
            );
        }
        Ok(())
    }

    /// Returns until when the version before `current` is valid: the overlap after `current` was created, unless this
    /// process has seen another current version; then the overlap after the change. A version may be created long before
    /// it becomes current, and an old one may become current again.
    fn previous_valid_until(&self, variable: TokenVariable, current: &Version) -> Duration {
        let (mut known, overlap) = (lock(&self.current), self.config.overlap);
        let remaining = match known.get(&variable) {
            Some((id, until)) if *id == current.id => return *until,
            Some(_) => overlap,
            // A version of the future was created while this clock is behind.
            None => (current.created_at.min(self.clock.now()) + overlap)
                .due_in(self.clock.now(), overlap),
        };
        let until = self.clock.monotonic() + remaining;
        known.insert(variable, (current.id.clone(), until));
        until
    }

    /// Refreshes the secrets on their interval, on SIGHUP, and on request, until `stop`.
    pub(crate) async fn run(self, targets: CredentialTargets, stop: CancellationToken) {
        // Also without secrets in Secrets Manager: without a listener SIGHUP would end the process.
        let mut hang_up = match signal(SignalKind::hangup()) {
            Ok(hang_up) => hang_up,
            Err(error) => {
                tracing::error!(%error, "cannot listen for SIGHUP");
                return;
            }
        };
        let mut last = Instant::now();
        loop {
            let reason = tokio::select! {
                () = stop.cancelled() => return,
                _ = hang_up.recv() => SIGHUP,
                reason = self.schedule.due(last, self.config.refresh) => reason,
            };
            last = Instant::now();
            // Failures are logged for each secret.
            if self.refresh(&targets).await.is_ok() && self.manager.is_some() {
                if reason == SIGHUP {
                    tracing::info!(reason, "secrets refreshed");
                } else {
                    tracing::debug!(reason, "secrets refreshed");
                }
            }
        }
    }
}

async fn refresh_csp_token(
    manager: &SecretsManager,
    id: &str,
    targets: &CredentialTargets,
) -> Result<(), SecretError> {
    let text = manager.current(id).await?.text;
    let token = csp_token(&text).map_err(|must| SecretError::invalid(id, must))?;
    targets.csp_token.set(token.into_owned().into());
    Ok(())
}

/// Returns the token in the text of a secret, which has to be valid in a header.
fn csp_token(text: &str) -> Result<Cow<'_, str>, &'static str> {
    let token = secret_in(text, "CSP_API_TOKEN")?;
    if token.is_empty() || !is_one_line(&token) || csp::is_placeholder(&token) {
        return Err("the API token: one line of ASCII characters");
    }
    Ok(token)
}

async fn refresh_niosxaas(
    manager: &SecretsManager,
    id: &str,
    targets: &CredentialTargets,
) -> Result<(), SecretError> {
    let text = manager.current(id).await?.text;
    let user: CspUser = serde_json::from_str(&text).map_err(|_| {
        SecretError::invalid(id, r#"JSON of the form {"email": "…", "password": "…"}"#)
    })?;
    if user.email.is_empty() || user.password.expose_secret().is_empty() {
        return Err(SecretError::invalid(
            id,
            "an email and a password that are not empty",
        ));
    }
    targets.csp_user.set(user);
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{json, text};

    proptest! {
        #[test]
        fn any_secret_is_an_api_token_valid_in_a_header_or_rejected(text in text()) {
            if let Ok(token) = csp_token(&text) {
                let header = HeaderValue::try_from(["Token ", &token].concat());
                prop_assert!(header.is_ok());
                prop_assert_eq!(text.trim(), token);
            }
        }

        #[test]
        fn any_secret_is_valid_bearer_tokens_or_rejected(text in text()) {
            for token in read_tokens(&text).unwrap_or_default() {
                let token = token.expose_secret();
                prop_assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(text.contains(token) && !token.contains(','));
            }
        }

        #[test]
        fn tokens_are_read_unchanged(tokens in proptest::collection::vec("[!-+--~]{1,99}", 1..5)) {
            let read = read_tokens(&tokens.join(" , ")).unwrap();
            let read: Vec<_> = read.iter().map(|token| token.expose_secret().to_owned()).collect();
            prop_assert_eq!(read, tokens);
        }

        #[test]
        fn user_is_read_unchanged_and_anything_else_is_rejected(email in text(), password in text(), other in json()) {
            let whole = serde_json::json!({ "email": email, "password": password });
            let user: CspUser = serde_json::from_str(&whole.to_string()).unwrap();
            prop_assert_eq!((user.email, user.password.expose_secret()), (email, password.as_str()));
            let wrong = serde_json::json!({ "email": other, "password": password });
            prop_assert_eq!(serde_json::from_str::<CspUser>(&wrong.to_string()).is_ok(), other.is_string());
        }
    }
}
