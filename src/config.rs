//! The configuration: one struct a concern, read from the environment once, at the start.

mod allocation;
mod credentials;
mod csp;
mod http;
mod jobs;
mod reader;
mod safety;
mod store;
mod telemetry;

use std::fmt;

use axum::http::Uri;
use thiserror::Error;

pub use self::reader::{Fault, REDACTED, Setting, Variables};
use self::{
    allocation::{read_allocation, read_terms},
    credentials::{read_auth, read_secrets},
    csp::read_csp,
    http::read_http,
    jobs::{read_jobs, read_niosxaas, read_sync},
    reader::Reader,
    safety::refuse_unsafe,
    store::read_store,
    telemetry::{parse_collector, read_log},
};
use crate::{
    auth::AuthConfig,
    broker::AllocationConfig,
    csp::{CspConfig, CspMode, niosxaas::NiosxaasConfig},
    domain::LeaseTerms,
    http::HttpConfig,
    jobs::{JobsConfig, SyncConfig},
    secrets::SecretsConfig,
    store::StoreConfig,
    telemetry::LogConfig,
    url::is_loopback_url,
};

/// Variables of the FastAPI service that have no effect here, and why.
const RETIRED: [(&str, &str); 4] = [
    (
        "K_CANDIDATES",
        "a candidate is taken from an index of the whole pool",
    ),
    ("WEB_CONCURRENCY", "one process uses every core"),
    ("UVICORN_HOST", "HOST says where to listen"),
    ("UVICORN_PORT", "PORT says where to listen"),
];

/// Everything.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the API listens.
    pub http: HttpConfig,
    /// Who may call.
    pub auth: AuthConfig,
    /// Which secrets are in Secrets Manager.
    pub secrets: SecretsConfig,
    /// Where the table is.
    pub store: StoreConfig,
    /// Which CSP.
    pub csp: CspConfig,
    /// How long an allocation lasts.
    pub terms: LeaseTerms,
    /// Allocation under contention.
    pub allocation: AllocationConfig,
    /// The sync job.
    pub sync: SyncConfig,
    /// The other jobs.
    pub jobs: JobsConfig,
    /// The services in the accounts; `None` if they are not to be deleted (`NIOSXAAS_ENABLED`).
    pub niosxaas: Option<NiosxaasConfig>,
    /// Logging.
    pub log: LogConfig,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: where traces go.
    pub otlp_endpoint: Option<String>,
    settings: Vec<Setting>,
    warnings: Vec<String>,
}

/// The environment has no usable configuration.
#[derive(Debug, Error)]
pub struct ConfigError {
    /// Every fault there is.
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
    /// [`ConfigError`] lists every variable at fault.
    pub fn from_variables(variables: &Variables) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(variables);
        let http = read_http(&mut reader);
        let store = read_store(&mut reader);
        let secrets = read_secrets(&mut reader);
        let auth = read_auth(&mut reader, &secrets);
        let csp = read_csp(&mut reader, &store);
        let terms = read_terms(&mut reader);
        let allocation = read_allocation(&mut reader);
        let sync = read_sync(&mut reader);
        let jobs = read_jobs(&mut reader, store.engine);
        let niosxaas = read_niosxaas(&mut reader, &secrets);
        let log = read_log(&mut reader, store.engine);
        refuse_unsafe(&mut reader, &http, &store, &auth, &secrets, &csp);
        let otlp_endpoint = reader.optional("OTEL_EXPORTER_OTLP_ENDPOINT", parse_collector);
        let mut warnings: Vec<String> = RETIRED
            .into_iter()
            .filter(|(variable, _)| reader.raw(variable).is_some())
            .map(|(variable, reason)| format!("{variable} has no effect any more: {reason}"))
            .collect();
        if csp.mode == CspMode::Live
            && csp.base_url.starts_with("http://")
            && !is_loopback_url(&csp.base_url)
        {
            warnings.push(
                "CSP_BASE_URL is not https, so CSP_API_TOKEN goes over the network in clear"
                    .to_owned(),
            );
        }
        if otlp_endpoint.is_some() && !cfg!(feature = "otlp") {
            warnings.push(
                "OTEL_EXPORTER_OTLP_ENDPOINT has no effect: this broker was built without the feature otlp"
                    .to_owned(),
            );
        }
        let (faults, settings) = reader.finish();
        if !faults.is_empty() {
            return Err(ConfigError { faults });
        }
        Ok(Self {
            http,
            auth,
            secrets,
            store,
            csp,
            terms,
            allocation,
            sync,
            jobs,
            niosxaas,
            log,
            otlp_endpoint,
            settings,
            warnings,
        })
    }

    /// Every setting in force, secrets redacted.
    #[must_use]
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// What the operator should know but need not change.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

fn parse_url(text: &str) -> Result<String, String> {
    let takes = || {
        "an http or https URL without user, query and fragment, such as http://127.0.0.1:8000"
            .to_owned()
    };
    let uri: Uri = text.parse().map_err(|_| takes())?;
    let is_url = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.query().is_none()
        && !text.contains(['@', '#']);
    is_url
        .then(|| text.trim_end_matches('/').to_owned())
        .ok_or_else(takes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{auth::DEFAULT_ADMIN_TOKEN, store::Engine};

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn faulty(pairs: &[(&str, &str)]) -> Vec<&'static str> {
        match Config::from_variables(&variables(pairs)) {
            Ok(_) => Vec::new(),
            Err(error) => error.faults.iter().map(|fault| fault.variable).collect(),
        }
    }

    const PRODUCTION: [(&str, &str); 4] = [
        ("STORE", "dynamodb"),
        ("BROKER_API_TOKEN", "track-1,track-2"),
        ("BROKER_ADMIN_TOKEN", "admin-1"),
        ("CSP_API_TOKEN", "csp"),
    ];

    fn production_with(pairs: &[(&'static str, &'static str)]) -> Vec<&'static str> {
        let mut all = variables(&PRODUCTION);
        all.extend(variables(pairs));
        match Config::from_variables(&all) {
            Ok(_) => Vec::new(),
            Err(error) => error.faults.iter().map(|fault| fault.variable).collect(),
        }
    }

    #[test]
    fn nothing_set_is_a_laptop() {
        let config = Config::from_variables(&Variables::new()).unwrap();
        assert_eq!(config.store.engine, Engine::Embedded);
        assert_eq!(config.csp.mode, CspMode::Simulated);
        assert_eq!(config.http.address(), "127.0.0.1:8080".parse().unwrap());
        assert_eq!(config.http.base_path, "/v1");
        assert_eq!(config.terms.lab_duration_hours, 4);
    }

    #[test]
    fn production_takes_several_tokens() {
        let config = Config::from_variables(&variables(&PRODUCTION)).unwrap();
        assert_eq!(config.auth.track_tokens.len(), 2);
        assert_eq!(config.csp.mode, CspMode::Live);
    }

    #[test]
    fn every_fault_is_told_at_once_with_what_it_takes() {
        let pairs = [
            ("PORT", "80800"),
            ("STORE", "redis"),
            ("LAB_DURATION_HOURS", "0"),
            ("HOST", "here"),
        ];
        let error = Config::from_variables(&variables(&pairs)).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.faults.len(), 4, "{text}");
        assert!(
            text.contains("PORT: got \"80800\"; it takes a number from 0 to 65535"),
            "{text}"
        );
        assert!(
            text.contains("STORE: got \"redis\"; it takes one of embedded, dynamodb"),
            "{text}"
        );
    }

    #[test]
    fn what_would_open_a_shared_pool_is_refused() {
        assert!(production_with(&[]).is_empty());
        assert_eq!(
            production_with(&[("BROKER_API_TOKEN", "")]),
            ["BROKER_API_TOKEN"]
        );
        assert_eq!(
            production_with(&[("BROKER_ADMIN_TOKEN", DEFAULT_ADMIN_TOKEN)]),
            ["BROKER_ADMIN_TOKEN"]
        );
        assert_eq!(
            production_with(&[("BROKER_API_TOKEN", " , ")]),
            ["BROKER_API_TOKEN"]
        );
        assert_eq!(
            production_with(&[("BROKER_ADMIN_TOKEN", "track-2")]),
            ["BROKER_ADMIN_TOKEN"]
        );
        assert_eq!(production_with(&[("CSP_API_TOKEN", "")]), ["CSP_API_TOKEN"]);
        assert_eq!(
            production_with(&[("CSP_API_TOKEN", "one\ntwo")]),
            ["CSP_API_TOKEN"]
        );
        assert_eq!(
            production_with(&[("BROKER_API_TOKEN", DEFAULT_ADMIN_TOKEN)]),
            ["BROKER_API_TOKEN"]
        );
        assert_eq!(
            production_with(&[("CSP_BASE_URL", "https://user:pw@csp.example.com/v2")]),
            ["CSP_BASE_URL"]
        );
        assert_eq!(
            production_with(&[("DDB_GSI2_NAME", "StatusIndex")]),
            ["DDB_GSI3_NAME"]
        );
        assert_eq!(
            production_with(&[("AWS_REGION", "us east")]),
            ["AWS_REGION"]
        );
        assert_eq!(
            production_with(&[("API_BASE_PATH", "/..")]),
            ["API_BASE_PATH"]
        );
        assert_eq!(production_with(&[("CSP_MODE", "simulated")]), ["CSP_MODE"]);
        assert_eq!(
            production_with(&[
                ("DDB_ENDPOINT_URL", "http://10.0.0.1:8000"),
                ("CSP_MODE", "simulated")
            ]),
            ["CSP_MODE"]
        );
        assert!(
            production_with(&[
                ("DDB_ENDPOINT_URL", "http://[::1]:8000"),
                ("CSP_MODE", "simulated")
            ])
            .is_empty()
        );
        assert_eq!(
            faulty(&[("HOST", "0.0.0.0")]),
            ["BROKER_API_TOKEN", "BROKER_ADMIN_TOKEN"]
        );
        assert!(
            faulty(&[
                ("STORE", "dynamodb"),
                ("DDB_ENDPOINT_URL", "http://localhost:8000"),
                ("CSP_MODE", "simulated")
            ])
            .is_empty()
        );
        assert_eq!(faulty(&[("CSP_MODE", "live")]), ["CSP_API_TOKEN"]);
    }

    #[test]
    fn secrets_are_neither_shown_nor_told_in_faults() {
        let config = Config::from_variables(&variables(&PRODUCTION)).unwrap();
        let shown = format!("{:?} {config:?}", config.settings());
        let mut pairs = variables(&PRODUCTION);
        pairs.insert("BROKER_API_TOKEN".into(), "geheim✓".into());
        let told = Config::from_variables(&pairs).unwrap_err().to_string();
        for secret in ["track-1", "track-2", "admin-1", "geheim"] {
            assert!(
                !shown.contains(secret) && !told.contains(secret),
                "{secret}"
            );
        }
    }

    #[test]
    fn retired_variables_are_accepted_with_a_warning() {
        let config = Config::from_variables(&variables(&[("K_CANDIDATES", "15")])).unwrap();
        assert!(config.warnings()[0].starts_with("K_CANDIDATES has no effect any more"));
    }

    #[test]
    fn a_token_that_goes_over_the_network_in_clear_is_warned_of() {
        let mut pairs = variables(&PRODUCTION);
        pairs.insert("CSP_BASE_URL".into(), "http://csp.example.com/v2".into());
        let config = Config::from_variables(&pairs).unwrap();
        assert!(
            config.warnings()[0].contains("in clear"),
            "{:?}",
            config.warnings()
        );
    }

    #[test]
    fn the_readme_lists_every_variable_and_no_other() {
        let readme = include_str!("../README.md");
        let config = Config::from_variables(&Variables::new()).unwrap();
        let table = readme
            .split("## Configuration")
            .nth(1)
            .and_then(|rest| rest.split("## Limits").next())
            .unwrap();
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        let mut listed: Vec<&str> = rows
            .filter_map(|row| row.split('|').nth(1))
            .flat_map(|cell| cell.split(','))
            .map(|name| name.trim().trim_matches('`'))
            .collect();
        let mut read: Vec<&str> = config
            .settings()
            .iter()
            .map(|setting| setting.variable)
            .collect();
        listed.sort_unstable();
        read.sort_unstable();
        assert_eq!(listed, read);
    }

    const SECRETS: [&str; 4] = [
        "BROKER_API_TOKEN",
        "BROKER_ADMIN_TOKEN",
        "CSP_API_TOKEN",
        "NIOSXAAS_PASSWORD",
    ];

    /// Some of the variables that there are, with values as people and scripts get them wrong, or right.
    fn any_variables() -> impl Strategy<Value = Variables> {
        let defaults = Config::from_variables(&Variables::new()).unwrap();
        let names: Vec<_> = defaults
            .settings()
            .iter()
            .map(|setting| setting.variable)
            .collect();
        let values = prop_oneof![
            4 => crate::arbitrary::number(),
            2 => proptest::sample::select(vec![
                "true", "no", "live", "simulated", "dynamodb", "embedded", "json", "NaN", "inf", "*", "/", "::",
                "http://127.0.0.1:8000", "http://[::1]", "https://ops.example.com", "http://a@b", "0.5", "1", " ",
            ]).prop_map(str::to_owned),
            1 => crate::arbitrary::text(),
        ];
        proptest::collection::btree_map(
            proptest::sample::select(names).prop_map(str::to_owned),
            values,
            0..12,
        )
    }

    proptest! {
        #[test]
        fn any_variables_are_a_configuration_within_its_bounds_or_faults(variables in any_variables()) {
            match Config::from_variables(&variables) {
                Ok(config) => {
                    prop_assert!((1..=720).contains(&config.terms.lab_duration_hours));
                    prop_assert!((0.0..=1.0).contains(&config.sync.max_stale_fraction));
                    prop_assert!(config.allocation.backoff.base <= config.allocation.backoff.max);
                    prop_assert!(config.http.base_path.is_empty() || config.http.base_path.starts_with('/'));
                    prop_assert!(config.http.edge.trusted_hops <= 10);
                    prop_assert!(!config.csp.base_url.ends_with('/'));
                    for setting in config.settings() {
                        prop_assert!(!SECRETS.contains(&setting.variable) || setting.value == REDACTED || setting.value == "(none)");
                    }
                }
                Err(error) => {
                    prop_assert!(!error.faults.is_empty());
                    prop_assert!(error.faults.iter().all(|fault| !fault.takes.is_empty()));
                }
            }
        }

        #[test]
        fn no_secret_is_ever_told(
            secret in "(zq[!-~]{0,20}qz|zq[^,]{0,20}qz)",
            variable in proptest::sample::select(SECRETS.to_vec()),
            mut variables in any_variables(),
        ) {
            variables.insert(variable.to_owned(), secret.clone());
            let told = match Config::from_variables(&variables) {
                Ok(config) => format!("{config:?} {:?} {:?}", config.settings(), config.warnings()),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!told.contains(&secret), "{told}");
        }
    }
}
