//! The client of the CSP API, as far as the broker uses it.

use reqwest::{RequestBuilder, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};

use super::{
    AccountList, CspConfig, CspError,
    error::Credentials,
    http::{checked, http_client, is_gone, observed, read_deletion, read_json, uuid_of},
    json::Page,
    list::{Entries, read_all},
};
use crate::{
    shared::Shared,
    telemetry::{metrics::Metrics, trace_headers},
};

/// A client of the CSP API.
#[derive(Clone, Debug)]
pub struct CspClient {
    pub(super) http: reqwest::Client,
    pub(super) base_url: String,
    token: Shared<SecretString>,
    pub(super) metrics: Metrics,
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

    /// Lists the active sandbox accounts that the token gives access to, on all pages.
    ///
    /// # Errors
    /// [`CspError`].
    pub async fn list_accounts(&self) -> Result<AccountList, CspError> {
        let Entries {
            entries,
            incomplete,
        } = read_all(|query| {
            observed(&self.metrics, "list", async move {
                let answer = self.get_accounts(&query).await?;
                read_json(answer, Page::parse).await
            })
        })
        .await?;
        let mut list = AccountList::default();
        list.add(&entries);
        list.incomplete = incomplete;
        Ok(list)
    }

    /// Checks that CSP accepts the token, by a call that concerns no single account.
    ///
    /// # Errors
    /// [`CspError::Unauthorized`] if it does not; any other [`CspError`] says nothing about the token.
    pub async fn check_token(&self) -> Result<(), CspError> {
        observed(&self.metrics, "list", async {
            self.get_accounts("").await.map(drop)
        })
        .await
    }

    async fn get_accounts(&self, query: &str) -> Result<Response, CspError> {
        let url = format!("{}/current_user/accounts{query}", self.base_url);
        let answer = self.send(self.http.get(url)).await?;
        checked(answer, Credentials::ApiToken)
            .map_err(|error| error.without_account(Credentials::ApiToken))
    }

    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, CspError> {
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
            if is_gone(&answer) {
                return Ok(());
            }
            read_deletion(checked(answer, Credentials::ApiToken)?).await
        })
        .await
    }

    fn authorization(&self) -> Result<header::HeaderValue, CspError> {
        let mut value =
            header::HeaderValue::try_from(format!("Token {}", self.token.get().expose_secret()))
                .map_err(|_| CspError::Unauthorized {
                    status: StatusCode::UNAUTHORIZED.as_u16(),
                    credentials: Credentials::ApiToken,
                })?;
        value.set_sensitive(true);
        Ok(value)
    }
}
