//! NIOSXaaS: the client that deletes the universal services a student may have left in a sandbox's account.
//!
//! The client acts as a user: it signs in, switches to the account, lists the services and deletes them.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::sync::Mutex;

use super::{
    CspError,
    error::Credentials,
    http::{checked, http_client, is_gone, observed, read_deletion, read_json, uuid_of},
    json::Page,
    list::read_all,
};
use crate::{
    shared::Shared,
    telemetry::{metrics::Metrics, trace_headers},
};

/// The configuration of the NIOSXaaS client.
#[derive(Clone, Debug)]
pub struct NiosxaasConfig {
    /// `NIOSXAAS_BASE_URL`, without a slash at the end.
    pub base_url: String,
    /// `NIOSXAAS_EMAIL`.
    pub email: String,
    /// `NIOSXAAS_PASSWORD`.
    pub password: Option<SecretString>,
    /// `NIOSXAAS_SERVICE_NAME`: the name of the services to delete; empty for all services.
    pub service_name: String,
    /// `NIOSXAAS_TIMEOUT_SEC`, for each call.
    pub timeout: Duration,
    /// `NIOSXAAS_SHADOW_MODE`: list services, but delete none.
    pub shadow_mode: bool,
}

/// The credentials of the user that deletes the services.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NiosxaasUser {
    /// The e-mail address.
    pub email: String,
    /// The password.
    pub password: SecretString,
}

/// The result of a cleaned account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// All services were deleted. Contains their number.
    Deleted(usize),
    /// Shadow mode: no service was deleted. Contains the number that would have been.
    Shadow(usize),
    /// The account does not exist, and neither do its services.
    NoAccount,
}

/// A client of the NIOSXaaS API. Clones are cheap.
#[derive(Clone, Debug)]
pub struct NiosxaasClient {
    http: reqwest::Client,
    config: Arc<NiosxaasConfig>,
    user: Shared<NiosxaasUser>,
    metrics: Metrics,
}

/// A session, whose sign-in all accounts of a run share. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Session {
    client: NiosxaasClient,
    token: Arc<Mutex<Option<SecretString>>>,
}

#[derive(Deserialize)]
struct Token {
    jwt: SecretString,
}

/// A service, as far as the client uses it.
#[derive(Debug)]
struct Service {
    id: String,
    name: Option<String>,
}

impl NiosxaasClient {
    /// Returns whether services are listed but not deleted.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.config.shadow_mode
    }

    /// Creates a client.
    ///
    /// # Errors
    /// [`CspError::Unavailable`] if TLS cannot be initialized.
    pub fn new(
        config: NiosxaasConfig,
        user: Shared<NiosxaasUser>,
        connect_timeout: Duration,
        metrics: Metrics,
    ) -> Result<Self, CspError> {
        let http = http_client(&config.base_url, connect_timeout, config.timeout)?;
        Ok(Self {
            http,
            config: Arc::new(config),
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
        self.http
            .request(method, format!("{}{path}", self.config.base_url))
            .timeout(self.config.timeout)
    }

    /// Sends a request. Returns `None` if the resource does not exist.
    async fn send<T>(
        &self,
        operation: &'static str,
        request: RequestBuilder,
        read: impl AsyncFnOnce(Response) -> Result<T, CspError>,
    ) -> Result<Option<T>, CspError> {
        observed(&self.metrics, operation, async {
            let answer = request.headers(trace_headers()).send().await?;
            if is_gone(&answer) {
                return Ok(None);
            }
            let answer = checked(answer, Credentials::NiosxaasUser)?;
            read(answer).await.map(Some)
        })
        .await
    }

    async fn sign_in(&self) -> Result<SecretString, CspError> {
        let user = self.user.get();
        let body = json!({
            "email": user.email,
            "password": user.password.expose_secret(),
        });
        let request = self
            .request(Method::POST, "/v2/session/users/sign_in")
            .json(&body)
            .headers(trace_headers());
        let answer = observed(&self.metrics, "niosxaas_sign_in", async {
            let answer = checked(request.send().await?, Credentials::NiosxaasUser);
            // The call concerns no account.
            let answer =
                answer.map_err(
                    |error| match error.without_account(Credentials::NiosxaasUser) {
                        CspError::Rejected { status } => CspError::unavailable(format!(
                            "NIOSXaaS rejects the sign-in (HTTP {status})"
                        )),
                        error => error,
                    },
                )?;
            read_token(answer).await
        })
        .await;
        let outcome = if answer.is_ok() { "success" } else { "error" };
        self.metrics
            .niosxaas_auth
            .with_label_values(&[outcome])
            .inc();
        answer
    }

    /// Switches the session to an account. Returns `None` if the account does not exist.
    async fn switch(
        &self,
        token: &SecretString,
        external_id: &str,
    ) -> Result<Option<SecretString>, CspError> {
        let body = json!({ "id": format!("identity/accounts/{}", uuid_of(external_id)?) });
        let request = self
            .request(Method::POST, "/v2/session/account_switch")
            .bearer_auth(token.expose_secret());
        self.send("niosxaas_switch", request.json(&body), read_token)
            .await
    }

    async fn services(&self, token: &SecretString) -> Result<Vec<Service>, CspError> {
        let list = read_all(|query| async move {
            let request = self
                .request(Method::GET, &format!("{SERVICES}{query}"))
                .bearer_auth(token.expose_secret());
            let read = async |answer| read_json(answer, Page::parse).await;
            let page = self.send("niosxaas_list", request, read).await?;
            page.ok_or(CspError::Rejected { status: 404 })
        })
        .await?;
        if let Some(reason) = list.incomplete {
            // The services that are not listed end with the account.
            tracing::warn!(reason, "list of NIOSXaaS services incomplete");
        }
        let wanted = |service: &Service| {
            let name = &self.config.service_name;
            name.is_empty() || service.name.as_ref() == Some(name)
        };
        Ok(read_services(&list.entries).filter(wanted).collect())
    }

    /// Deletes a service. Succeeds if it does not exist.
    async fn delete(&self, token: &SecretString, service: &Service) -> Result<(), CspError> {
        let uuid = uuid_of(&service.id)?;
        let request = self
            .request(Method::DELETE, &format!("{SERVICES}/{uuid}"))
            .bearer_auth(token.expose_secret());
        self.send("niosxaas_delete", request, read_deletion).await?;
        self.metrics.niosxaas_services_deleted.inc();
        Ok(())
    }
}

const SERVICES: &str = "/api/universalinfra/v1/universalservices";

async fn read_token(answer: Response) -> Result<SecretString, CspError> {
    let token: Token = read_json(answer, |body| serde_json::from_str(body)).await?;
    Ok(token.jwt)
}

/// Converts the entries of a list. Invalid ones are logged and skipped.
fn read_services(entries: &[Box<RawValue>]) -> impl Iterator<Item = Service> {
    entries.iter().filter_map(|entry| {
        let entry: Value = serde_json::from_str(entry.get()).unwrap_or_default();
        let text = |name| entry.get(name)?.as_str().map(ToOwned::to_owned);
        let Some(id) = text("id") else {
            tracing::warn!("invalid NIOSXaaS service skipped");
            return None;
        };
        Some(Service {
            id,
            name: text("name"),
        })
    })
}

impl Session {
    /// Deletes the services of an account, or counts them in shadow mode. Signs in again once if the session has
    /// expired.
    ///
    /// # Errors
    /// [`CspError`].
    pub async fn clean(&self, external_id: &str) -> Result<Cleaned, CspError> {
        let token = self.token(None).await?;
        match self.clean_with(&token, external_id).await {
            Err(CspError::Unauthorized { status: 401, .. }) => {
                let renewed = self.token(Some(&token)).await?;
                self.clean_with(&renewed, external_id).await
            }
            outcome => outcome,
        }
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

    async fn clean_with(
        &self,
        token: &SecretString,
        external_id: &str,
    ) -> Result<Cleaned, CspError> {
        let Some(token) = self.client.switch(token, external_id).await? else {
            return Ok(Cleaned::NoAccount);
        };
        let services = self.client.services(&token).await?;
        if self.client.config.shadow_mode {
            return Ok(Cleaned::Shadow(services.len()));
        }
        // A service that cannot be deleted does not prevent the deletion of the others.
        let mut outcome = Ok(Cleaned::Deleted(services.len()));
        for service in &services {
            match self.client.delete(&token, service).await {
                Err(error @ CspError::Unauthorized { .. }) => return Err(error),
                Err(error) => outcome = outcome.and(Err(error)),
                Ok(()) => {}
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::json;

    #[test]
    fn service_needs_no_name() {
        let answer = r#"{"results": [{"id": "a/1"}, {"id": "a/2", "name": 3}, {"id": "a/3", "name": "x"}, {}, null]}"#;
        let page = Page::parse(answer).unwrap();
        let services: Vec<_> = read_services(&page.entries)
            .map(|service| (service.id, service.name))
            .collect();
        let expected = [("a/1", None), ("a/2", None), ("a/3", Some("x"))];
        assert_eq!(
            services,
            expected.map(|(id, name)| (id.to_owned(), name.map(ToOwned::to_owned)))
        );
    }

    proptest! {
        #[test]
        fn any_answer_is_parsed_or_rejected(results in json(), jwt in json()) {
            let answer = json!({ "results": results, "jwt": jwt }).to_string();
            let page = Page::parse(&answer);
            prop_assert_eq!(page.is_ok(), results.is_array() || results.is_null());
            if let (Ok(page), Value::Array(entries)) = (page, results) {
                let with_id = entries.iter().filter(|entry| entry["id"].is_string());
                prop_assert_eq!(read_services(&page.entries).count(), with_id.count());
            }
            let token: Result<Token, _> = serde_json::from_str(&answer);
            prop_assert_eq!(token.is_ok(), jwt.is_string());
        }
    }
}
