//! The client of the CSP API, as far as the broker uses it.

use reqwest::{RequestBuilder, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};

use super::{
    AccountList, CspConfig, CspError,
    http::{checked, http_client, observed, read_body, uuid_of},
};
use crate::{
    shared::Shared,
    telemetry::{metrics::Metrics, trace_headers},
};

/// A client of the CSP API.
#[derive(Clone, Debug)]
pub struct CspClient {
    http: reqwest::Client,
    base_url: String,
    token: Shared<SecretString>,
    metrics: Metrics,
}

impl CspClient {
    /// Creates a client for the CSP at `base_url`.
    ///
    /// # Errors
    /// [`CspError::Unavailable`] if TLS cannot be initialized.
    pub fn new(
        config: &CspConfig,
        base_url: &str,
        token: Shared<SecretString>,
        metrics: Metrics,
    ) -> Result<Self, CspError> {
        let http = http_client(base_url, config.connect_timeout, config.read_timeout)?;
        Ok(Self {
            http,
            base_url: base_url.to_owned(),
            token,
            metrics,
        })
    }

    /// Lists the active sandbox accounts that the token gives access to.
    ///
    /// # Errors
    /// [`CspError`].
    pub async fn list_accounts(&self) -> Result<AccountList, CspError> {
        observed(&self.metrics, "list", async {
            let request = self
                .http
                .get(format!("{}/current_user/accounts", self.base_url));
            let body = read_body(checked(self.send(request).await?)?).await?;
            AccountList::parse(&body).map_err(|fault| {
                CspError::unavailable(format!(
                    "the account list is not JSON of the expected form: {fault}"
                ))
            })
        })
        .await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CspError> {
        let request = request
            .header(header::AUTHORIZATION, self.authorization()?)
            .header(header::ACCEPT, "application/json")
            .headers(trace_headers());
        Ok(request.send().await?)
    }

    /// Deletes an account. Succeeds if the account does not exist.
    ///
    /// # Errors
    /// [`CspError`].
    pub async fn delete_account(&self, external_id: &str) -> Result<(), CspError> {
        let uuid = uuid_of(external_id)?;
        observed(&self.metrics, "delete", async {
            let request = self
                .http
                .delete(format!("{}/sandbox/accounts/{uuid}", self.base_url));
            let answer = self.send(request).await?;
            if answer.status() == StatusCode::NOT_FOUND {
                return Ok(());
            }
            // A success with a web page comes from a proxy in front of CSP: nothing was deleted.
            let body = read_body(checked(answer)?).await?;
            if body.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
                Ok(())
            } else {
                Err(CspError::unavailable(
                    "the answer to a deletion is not JSON",
                ))
            }
        })
        .await
    }

    fn authorization(&self) -> Result<header::HeaderValue, CspError> {
        let mut value =
            header::HeaderValue::try_from(format!("Token {}", self.token.get().expose_secret()))
                .map_err(|_| CspError::Unauthorized {
                    status: StatusCode::UNAUTHORIZED.as_u16(),
                })?;
        value.set_sensitive(true);
        Ok(value)
    }
}
