//! NIOSXaaS: the client that deletes the universal services a student may have left in a sandbox's account.
//!
//! The client acts as a user: it signs in, switches to the account, lists the services and deletes them.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{
    CspError,
    http::{checked, http_client, observed, read_body, uuid_of},
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

#[derive(Deserialize)]
struct Services {
    results: Vec<Value>,
}

#[derive(Deserialize)]
struct Service {
    id: String,
    name: String,
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

    async fn send<T: serde::de::DeserializeOwned>(
        &self,
        operation: &'static str,
        request: RequestBuilder,
    ) -> Result<T, CspError> {
        observed(&self.metrics, operation, async {
            let answer = request.headers(trace_headers()).send().await?;
            let body = read_body(checked(answer)?).await?;
            serde_json::from_slice(&body).map_err(|fault| {
                CspError::unavailable(format!(
                    "an answer of NIOSXaaS is not JSON of the expected form: {fault}"
                ))
            })
        })
        .await
    }

    async fn sign_in(&self) -> Result<SecretString, CspError> {
        let user = self.user.get();
        let body = json!({
            "email": user.email,
            "password": user.password.expose_secret(),
        });
        let request = self.request(Method::POST, "/v2/session/users/sign_in");
        let answer = self.send("niosxaas_sign_in", request.json(&body)).await;
        let outcome = if answer.is_ok() { "success" } else { "error" };
        self.metrics
            .niosxaas_auth
            .with_label_values(&[outcome])
            .inc();
        answer.map(|token: Token| token.jwt)
    }

    async fn switch(
        &self,
        token: &SecretString,
        external_id: &str,
    ) -> Result<SecretString, CspError> {
        let uuid = external_id.rsplit('/').next().unwrap_or_default();
        let body = json!({ "id": format!("identity/accounts/{uuid}") });
        let request = self
            .request(Method::POST, "/v2/session/account_switch")
            .bearer_auth(token.expose_secret());
        let token: Token = self.send("niosxaas_switch", request.json(&body)).await?;
        Ok(token.jwt)
    }

    async fn services(&self, token: &SecretString) -> Result<Vec<Service>, CspError> {
        let request = self
            .request(Method::GET, SERVICES)
            .bearer_auth(token.expose_secret());
        let services: Services = self.send("niosxaas_list", request).await?;
        let wanted = |service: &Service| {
            self.config.service_name.is_empty() || service.name == self.config.service_name
        };
        let readable = services
            .results
            .into_iter()
            .filter_map(|entry| serde_json::from_value(entry).ok());
        Ok(readable.filter(wanted).collect())
    }

    async fn delete(&self, token: &SecretString, service: &Service) -> Result<(), CspError> {
        let uuid = uuid_of(&service.id)?;
        let request = self
            .request(Method::DELETE, &format!("{SERVICES}/{uuid}"))
            .bearer_auth(token.expose_secret());
        observed(&self.metrics, "niosxaas_delete", async {
            let answer = request.headers(trace_headers()).send().await?;
            if answer.status() == StatusCode::NOT_FOUND {
                Ok(())
            } else {
                checked(answer).map(drop)
            }
        })
        .await?;
        self.metrics.niosxaas_services_deleted.inc();
        Ok(())
    }
}

const SERVICES: &str = "/api/universalinfra/v1/universalservices";

impl Session {
    /// Deletes the services of an account, or counts them in shadow mode. Signs in again once if the session has
    /// expired.
    ///
    /// # Errors
    /// [`CspError`].
    pub async fn clean(&self, external_id: &str) -> Result<Cleaned, CspError> {
        let token = self.token(None).await?;
        match self.clean_with(&token, external_id).await {
            Err(CspError::Unauthorized { status: 401 }) => {
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
        let token = self.client.switch(token, external_id).await?;
        let services = self.client.services(&token).await?;
        if self.client.config.shadow_mode {
            return Ok(Cleaned::Shadow(services.len()));
        }
        for service in &services {
            self.client.delete(&token, service).await?;
        }
        Ok(Cleaned::Deleted(services.len()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::json;

    proptest! {
        #[test]
        fn any_answer_is_parsed_or_rejected(results in json(), jwt in json()) {
            let answer = json!({ "results": results, "jwt": jwt }).to_string();
            let services: Result<Services, _> = serde_json::from_str(&answer);
            prop_assert_eq!(services.is_ok(), results.is_array());
            for entry in services.map(|services| services.results).unwrap_or_default() {
                let is_service = entry["id"].is_string() && entry["name"].is_string();
                let is_object = entry.is_object();
                let is_read = serde_json::from_value::<Service>(entry).is_ok();
                prop_assert!(!is_object || is_read == is_service);
            }
            let token: Result<Token, _> = serde_json::from_str(&answer);
            prop_assert_eq!(token.is_ok(), jwt.is_string());
        }
    }
}
