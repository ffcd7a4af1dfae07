//! NIOSXaaS: the client that deletes the universal services a student may have left in a sandbox's account.
//!
//! The client acts in a session of a user: it lists the services of an account and deletes them.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, value::RawValue};

use super::{
    CspError,
    http::{http_client, observed, read_deletion, read_json, uuid_of},
    json::Page,
    list::read_all,
    session::{self, CspUser, Purpose, SessionClient, read_in_session},
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
    /// `NIOSXAAS_SERVICE_NAME`: the name of the services to delete; empty for all services.
    pub service_name: String,
    /// `NIOSXAAS_TIMEOUT_SEC`, for each call.
    pub timeout: Duration,
    /// `NIOSXAAS_SHADOW_MODE`: list services, but delete none.
    pub shadow_mode: bool,
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
    sessions: SessionClient,
    metrics: Metrics,
}

/// A session, whose sign-in all accounts of a run share. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Session {
    client: NiosxaasClient,
    session: session::Session,
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
        user: Shared<CspUser>,
        connect_timeout: Duration,
        metrics: Metrics,
    ) -> Result<Self, CspError> {
        Ok(Self {
            http: http_client(&config.base_url, connect_timeout, config.timeout)?,
            sessions: SessionClient::new(
                Purpose::Niosxaas,
                format!("{}/v2", config.base_url),
                connect_timeout,
                config.timeout,
                user,
                metrics.clone(),
            )?,
            config: Arc::new(config),
            metrics,
        })
    }

    /// Creates a session. It signs in with its first call.
    #[must_use]
    pub fn session(&self) -> Session {
        Session {
            client: self.clone(),
            session: self.sessions.session(),
        }
    }

    fn request(&self, method: Method, path: &str, token: &SecretString) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.config.base_url))
            .timeout(self.config.timeout)
            .bearer_auth(token.expose_secret())
            .headers(trace_headers())
    }

    /// Sends a request. Returns `None` if the resource does not exist.
    async fn send<T>(
        &self,
        operation: &'static str,
        request: RequestBuilder,
        read: impl AsyncFnOnce(Response) -> Result<T, CspError>,
    ) -> Result<Option<T>, CspError> {
        observed(&self.metrics, operation, read_in_session(request, read)).await
    }

    async fn services(&self, token: &SecretString) -> Result<Vec<Service>, CspError> {
        let list = read_all(|query| async move {
            let request = self.request(Method::GET, &format!("{SERVICES}{query}"), token);
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
        let request = self.request(Method::DELETE, &format!("{SERVICES}/{uuid}"), token);
        self.send("niosxaas_delete", request, read_deletion).await?;
        self.metrics.niosxaas_services_deleted.inc();
        Ok(())
    }

    /// Deletes the services of the account that the token is for.
    async fn clean_with(&self, token: &SecretString) -> Result<Cleaned, CspError> {
        let services = self.services(token).await?;
        if self.config.shadow_mode {
            return Ok(Cleaned::Shadow(services.len()));
        }
        // A service that cannot be deleted does not prevent the deletion of the others.
        let mut outcome = Ok(Cleaned::Deleted(services.len()));
        for service in &services {
            match self.delete(token, service).await {
                Err(error @ CspError::Unauthorized { .. }) => return Err(error),
                Err(error) => outcome = outcome.and(Err(error)),
                Ok(()) => {}
            }
        }
        outcome
    }
}

const SERVICES: &str = "/api/universalinfra/v1/universalservices";

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
        let cleaned = self.session.in_account(external_id, |token| async move {
            self.client.clean_with(&token).await
        });
        Ok(cleaned.await?.unwrap_or(Cleaned::NoAccount))
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
        fn any_answer_is_parsed_or_rejected(results in json()) {
            let answer = serde_json::json!({ "results": results }).to_string();
            let page = Page::parse(&answer);
            prop_assert_eq!(page.is_ok(), results.is_array() || results.is_null());
            if let (Ok(page), Value::Array(entries)) = (page, results) {
                let with_id = entries.iter().filter(|entry| entry["id"].is_string());
                prop_assert_eq!(read_services(&page.entries).count(), with_id.count());
            }
        }
    }
}
