//! The configuration, read from the environment once, at the start. Each layer defines the structs that it needs; only
//! this module knows the names of variables.

mod allocation;
mod credentials;
mod csp;
pub mod dotenv;
mod http;
mod jobs;
mod load_balancer;
mod modes;
mod reader;
mod safety;
mod store;
mod takeover;
mod telemetry;
#[cfg(test)]
mod tests;
mod unused;

use std::fmt;

use axum::http::Uri;
use thiserror::Error;

pub use self::reader::{Fault, REDACTED, Setting, Variables};
use self::{
    allocation::{read_allocation, read_terms},
    credentials::{read_auth, read_secrets},
    csp::read_csp,
    http::read_http,
    jobs::{read_csp_user, read_jobs, read_niosxaas, read_sync, require_csp_user},
    load_balancer::read_load_balancer,
    modes::warn_of_modes,
    reader::Reader,
    safety::{refuse_short_settle, refuse_unsafe},
    store::read_store,
    takeover::refuse_ambiguous,
    telemetry::{read_log, read_otlp_endpoint},
    unused::warn_of_unused,
};
use crate::{
    auth::{AuthConfig, load_balancer::LoadBalancerConfig},
    broker::AllocationConfig,
    csp::{CspConfig, CspMode, niosxaas::NiosxaasConfig, session::CspUser},
    domain::LeaseTerms,
    http::HttpConfig,
    jobs::{CheckMode, JobsConfig, SyncConfig},
    secrets::SecretsConfig,
    store::StoreConfig,
    telemetry::LogConfig,
    url::is_loopback_url,
};

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address, the path and the limits of the API.
    pub http: HttpConfig,
    /// The tokens of the environment.
    pub auth: AuthConfig,
    /// Sign-in at the load balancer; `None` if it is off (`ALB_OIDC_SIGNER_ARN`).
    pub load_balancer: Option<LoadBalancerConfig>,
    /// The secrets that are in Secrets Manager.
    pub secrets: SecretsConfig,
    /// The database and its table.
    pub store: StoreConfig,
    /// The CSP.
    pub csp: CspConfig,
    /// The lease terms of allocations.
    pub terms: LeaseTerms,
    /// Allocation under contention.
    pub allocation: AllocationConfig,
    /// The sync job.
    pub sync: SyncConfig,
    /// The other jobs.
    pub jobs: JobsConfig,
    /// The deletion of NIOSXaaS services; `None` if it is off (`NIOSXAAS_ENABLED`).
    pub niosxaas: Option<NiosxaasConfig>,
    /// The user that deletes NIOSXaaS services and checks accounts; empty if it is not in the environment.
    pub csp_user: CspUser,
    /// The log.
    pub log: LogConfig,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: the collector of traces.
    pub otlp_endpoint: Option<String>,
    settings: Vec<Setting>,
    warnings: Vec<String>,
}

/// The error for an environment without a valid configuration.
#[derive(Debug, Error)]
pub struct ConfigError {
    /// All faults.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} variable(s) cannot be used:", self.faults.len())?;
        self.faults
            .iter()
            .try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl Config {
    /// Reads the configuration from `variables`.
    ///
    /// # Errors
    /// [`ConfigError`] with all faults.
    pub fn from_variables(variables: &Variables) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(variables);
        let http = read_http(&mut reader);
        let terms = read_terms(&mut reader);
        let store = read_store(&mut reader, terms);
        let secrets = read_secrets(&mut reader);
        let auth = read_auth(&mut reader, &secrets);
        let load_balancer = read_load_balancer(&mut reader);
        let csp = read_csp(&mut reader, &store);
        let allocation = read_allocation(&mut reader);
        let sync = read_sync(&mut reader);
        let jobs = read_jobs(&mut reader, store.engine);
        let niosxaas = read_niosxaas(&mut reader);
        let csp_user = read_csp_user(&mut reader);
        let log = read_log(&mut reader, store.engine);
        refuse_ambiguous(&mut reader, &store, &csp);
        refuse_unsafe(&mut reader, &http, &store, &auth, &secrets, &csp);
        refuse_short_settle(&mut reader, &jobs.refill, &csp);
        if secrets.niosxaas.is_none() {
            let checks = jobs.check.mode != CheckMode::Off && csp.mode == CspMode::Live;
            require_csp_user(&mut reader, &csp_user, niosxaas.is_some(), checks);
        }
        let otlp_endpoint = read_otlp_endpoint(&mut reader);
        warn_of_modes(&mut reader, &jobs);
        warn_of_unused(&mut reader, store.engine, csp.mode);
        if csp.mode == CspMode::Live
            && csp.base_url.starts_with("http://")
            && !is_loopback_url(&csp.base_url)
        {
            reader.warn("CSP_BASE_URL is not https, so CSP_API_TOKEN is sent in clear text");
        }
        if otlp_endpoint.is_some() && !cfg!(feature = "otlp") {
            reader.warn(
                "OTEL_EXPORTER_OTLP_ENDPOINT has no effect: this broker was built without the feature otlp",
            );
        }
        let (faults, settings, warnings) = reader.finish();
        if !faults.is_empty() {
            return Err(ConfigError { faults });
        }
        Ok(Self {
            http,
            auth,
            load_balancer,
            secrets,
            store,
            csp,
            terms,
            allocation,
            sync,
            jobs,
            niosxaas,
            csp_user,
            log,
            otlp_endpoint,
            settings,
            warnings,
        })
    }

    /// Returns every setting in force, with secrets redacted.
    #[must_use]
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Returns warnings about settings that are valid, but probably not intended.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The form of a URL.
const URL: &str =
    "an http or https URL without user, query and fragment, such as http://127.0.0.1:8000";

/// Returns the URL without a slash at the end.
fn parse_url(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let is_url = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.query().is_none()
        && !text.contains(['@', '#']);
    is_url.then(|| text.trim_end_matches('/').to_owned())
}
