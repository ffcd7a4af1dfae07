//! Sessions of the CSP user: sign in, and switch to an account.
//!
//! The API token of the broker gives access to the list of accounts, but to nothing in them. A user signs in, switches to
//! an account, and then acts in it.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::{
    CspError,
    error::Credentials,
    http::{checked, http_client, is_gone, observed, read_json, uuid_of},
    json::Page,
};
use crate::{
    shared::Shared,
    telemetry::{metrics::Metrics, trace_headers},
};

/// The user of `NIOSXAAS_EMAIL` and `NIOSXAAS_PASSWORD`, or of `NIOSXAAS_SECRET_ID`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CspUser {
    /// The e-mail address.
    pub email: String,
    /// The password.
    pub password: SecretString,
}

/// The purpose of sessions. It decides under which operations their calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The deletion of NIOSXaaS services.
    Niosxaas,
    /// Checks of whether accounts are usable.
    Check,
}

impl Purpose {
    const fn sign_in(self) -> &'static str {
        match self {
            Self::Niosxaas => "niosxaas_sign_in",
            Self::Check => "check_sign_in",
        }
    }

    const fn switch(self) -> &'static str {
        match self {
            Self::Niosxaas => "niosxaas_switch",
            Self::Check => "check_switch",
        }
    }
}

/// Opens sessions of the user. Clones are cheap.
#[derive(Clone, Debug)]
pub struct SessionClient {
    purpose: Purpose,
    http: reqwest::Client,
    /// The URL of the session API, without a slash at the end.
    base_url: String,
    timeout: Duration,
    user: Shared<CspUser>,
    metrics: Metrics,
}

/// A session, whose sign-in all accounts of a run share. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Session {
    client: SessionClient,
    token: Arc<Mutex<Option<SecretString>>>,
}

#[derive(Deserialize)]
struct Token {
    jwt: SecretString,
}

async fn read_token(answer: Response) -> Result<SecretString, CspError> {
    let token: Token = read_json(answer, |body| serde_json::from_str(body)).await?;
    Ok(token.jwt)
}

impl SessionClient {
    /// Creates a client for the CSP at `base_url`. `timeout` is that of each call as a whole.
    ///
    /// # Errors
    /// [`CspError::Unavailable`] if TLS cannot be initialized.
    pub fn new(
        purpose: Purpose,
        base_url: impl Into<String>,
        connect_timeout: Duration,
        timeout: Duration,
        user: Shared<CspUser>,
        metrics: Metrics,
    ) -> Result<Self, CspError> {
        let base_url = base_url.into();
        Ok(Self {
            purpose,
            http: http_client(&base_url, connect_timeout, timeout)?,
            base_url,
            timeout,
            user,
            metrics,
        })
    }

    /// Creates a session. It signs in with its first call.
    #[must_use]
    pub fn session(&self) -> Session {
        Session {
            client: self.clone(),
            token: Arc::default(),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base_url);
        self.http
            .request(method, url)
            .timeout(self.timeout)
            .headers(trace_headers())
    }

    async fn sign_in(&self) -> Result<SecretString, CspError> {
        let user = self.user.get();
        let request = self
            .request(Method::POST, "/session/users/sign_in")
            .json(&json!({ "email": user.email, "password": user.password.expose_secret() }));
        let answer = observed(&self.metrics, self.purpose.sign_in(), async {
            let answer = checked(request.send().await?, Credentials::NiosxaasUser);
            // The call concerns no account.
            let answer =
                answer.map_err(
                    |error| match error.without_account(Credentials::NiosxaasUser) {
                        CspError::Rejected { status } => {
                            CspError::unavailable(format!("it rejects the sign-in (HTTP {status})"))
                        }
                        error => error,
                    },
                )?;
            read_token(answer).await
        })
        .await;
        if self.purpose == Purpose::Niosxaas {
            let outcome = if answer.is_ok() { "success" } else { "error" };
            self.metrics
                .niosxaas_auth
                .with_label_values(&[outcome])
                .inc();
        }
        answer
    }

    /// Switches a session to an account. Returns `None` if the account does not exist.
    async fn switch(
        &self,
        token: &SecretString,
        external_id: &str,
    ) -> Result<Option<SecretString>, CspError> {
        let body = json!({ "id": format!("identity/accounts/{}", uuid_of(external_id)?) });
        let request = self
            .request(Method::POST, "/session/account_switch")
            .bearer_auth(token.expose_secret())
            .json(&body);
        observed(&self.metrics, self.purpose.switch(), async {
            read_in_session(request, read_token).await
        })
        .await
    }

    /// Returns the number of groups on the first page of the list; `None` if the account has no such list.
    async fn groups(&self, token: &SecretString) -> Result<Option<usize>, CspError> {
        let request = self
            .request(Method::GET, "/groups")
            .bearer_auth(token.expose_secret());
        observed(&self.metrics, "check_groups", async {
            let read = async |answer| read_json(answer, Page::parse).await;
            let page = read_in_session(request, read).await?;
            Ok(page.map(|page| page.entries.len()))
        })
        .await
    }
}

/// Sends a request in a session. Returns `None` if the resource does not exist.
pub(super) async fn read_in_session<T>(
    request: RequestBuilder,
    read: impl AsyncFnOnce(Response) -> Result<T, CspError>,
) -> Result<Option<T>, CspError> {
    let answer = request.send().await?;
    if is_gone(&answer) {
        return Ok(None);
    }
    let answer = checked(answer, Credentials::Session)?;
    read(answer).await.map(Some)
}

impl Session {
    /// Signs in, unless it has signed in.
    ///
    /// # Errors
    /// [`CspError`]; [`Credentials::NiosxaasUser`] if CSP rejects the user.
    pub async fn sign_in(&self) -> Result<(), CspError> {
        self.token(None).await.map(drop)
    }

    /// Switches to an account, and calls `act` with the token for it. Returns `None` if the account does not exist. If the
    /// session has expired, it signs in again and repeats both once.
    ///
    /// # Errors
    /// [`CspError`].
    pub(super) async fn in_account<T, F>(
        &self,
        external_id: &str,
        act: impl Fn(SecretString) -> F + Send,
    ) -> Result<Option<T>, CspError>
    where
        F: Future<Output = Result<T, CspError>> + Send,
    {
        let attempt =
            async |token: &SecretString| match self.client.switch(token, external_id).await? {
                Some(token) => act(token).await.map(Some),
                None => Ok(None),
            };
        let token = self.token(None).await?;
        match attempt(&token).await {
            Err(CspError::Unauthorized { status: 401, .. }) => {
                let renewed = self.token(Some(&token)).await?;
                attempt(&renewed).await
            }
            outcome => outcome,
        }
    }

    /// Returns the number of groups of an account, which is 0 until the account is usable; `None` if it does not exist.
    ///
    /// # Errors
    /// [`CspError`].
    pub async fn groups(&self, external_id: &str) -> Result<Option<usize>, CspError> {
        let groups = self.in_account(external_id, |token| async move {
            self.client.groups(&token).await
        });
        Ok(groups.await?.flatten())
    }

    /// Checks that the user may enter an account and list its groups, after CSP has denied others.
    ///
    /// # Errors
    /// [`CspError::Unauthorized`] if CSP denies this one too; any other [`CspError`] says nothing about the user.
    pub async fn check_user(&self, external_id: &str) -> Result<(), CspError> {
        observed(&self.client.metrics, "check_user", async {
            let entered = self.groups(external_id).await;
            let denied = |status| CspError::Unauthorized {
                status,
                credentials: Credentials::NiosxaasUser,
            };
            entered.map(drop).map_err(|error| match error {
                CspError::Forbidden => denied(403),
                CspError::Unauthorized { status, .. } => denied(status),
                error => error,
            })
        })
        .await
    }

    /// Returns the session's token, or signs in if there is none or it is `rejected`.
    async fn token(&self, rejected: Option<&SecretString>) -> Result<SecretString, CspError> {
        let mut token = self.token.lock().await;
        let is_rejected = |known: &SecretString| {
            rejected.is_some_and(|rejected| rejected.expose_secret() == known.expose_secret())
        };
        if let Some(known) = token.as_ref().filter(|known| !is_rejected(known)) {
            return Ok(known.clone());
        }
        let fresh = self.client.sign_in().await?;
        *token = Some(fresh.clone());
        Ok(fresh)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::json;

    proptest! {
        #[test]
        fn answer_with_a_token_is_parsed_and_any_other_rejected(jwt in json()) {
            let answer = json!({ "jwt": jwt }).to_string();
            let token: Result<Token, _> = serde_json::from_str(&answer);
            prop_assert_eq!(token.is_ok(), jwt.is_string());
        }
    }
}
