//! Tests of valid, invalid and unsafe configurations.

#[cfg(all(feature = "embedded", feature = "simulator"))]
mod documentation;

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
fn default_configuration_is_for_a_laptop() {
    let config = Config::from_variables(&Variables::new()).unwrap();
    assert_eq!(config.store.engine, Engine::Embedded);
    assert_eq!(config.csp.mode, CspMode::Simulated);
    assert_eq!(config.http.address(), "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.http.base_path, "/v1");
    assert_eq!(config.terms.lab_duration_hours, 4);
}

#[test]
fn several_tokens_are_accepted() {
    let config = Config::from_variables(&variables(&PRODUCTION)).unwrap();
    assert_eq!(config.auth.track_tokens.len(), 2);
    assert_eq!(config.csp.mode, CspMode::Live);
}

#[test]
fn all_faults_are_reported_together_with_the_accepted_values() {
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
fn shared_pool_requires_own_tokens_of_each_role() {
    assert!(production_with(&[]).is_empty());
    for (variable, value) in [
        ("BROKER_API_TOKEN", ""),
        ("BROKER_ADMIN_TOKEN", DEFAULT_ADMIN_TOKEN),
        ("BROKER_API_TOKEN", " , "),
        ("BROKER_ADMIN_TOKEN", "track-2"),
        ("BROKER_API_TOKEN", DEFAULT_ADMIN_TOKEN),
    ] {
        assert_eq!(production_with(&[(variable, value)]), [variable], "{value}");
    }
}

#[test]
fn invalid_values_are_faults_of_their_variable() {
    for (variable, value) in [
        ("CSP_API_TOKEN", ""),
        ("CSP_API_TOKEN", "one\ntwo"),
        ("CSP_BASE_URL", "https://user:pw@csp.example.com/v2"),
        ("AWS_REGION", "us east"),
        ("API_BASE_PATH", "/.."),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://127.0.0.1:4318/v1/traces",
        ),
    ] {
        assert_eq!(production_with(&[(variable, value)]), [variable], "{value}");
    }
    assert_eq!(
        production_with(&[("DDB_GSI2_NAME", "StatusIndex")]),
        ["DDB_GSI3_NAME"]
    );
    assert_eq!(
        production_with(&[("DDB_COMPANION_TABLE_NAME", "SandboxPool")]),
        ["DDB_COMPANION_TABLE_NAME"]
    );
    assert_eq!(faulty(&[("CSP_MODE", "live")]), ["CSP_API_TOKEN"]);
}

#[test]
fn simulated_csp_requires_a_pool_on_this_machine() {
    let simulated = ("CSP_MODE", "simulated");
    assert_eq!(production_with(&[simulated]), ["CSP_MODE"]);
    let elsewhere = ("DDB_ENDPOINT_URL", "http://10.0.0.1:8000");
    assert_eq!(production_with(&[elsewhere, simulated]), ["CSP_MODE"]);
    let here = ("DDB_ENDPOINT_URL", "http://[::1]:8000");
    assert!(production_with(&[here, simulated]).is_empty());
}

#[test]
fn default_tokens_require_a_loopback_address() {
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
}

#[test]
fn secrets_are_neither_in_settings_nor_in_faults() {
    let config = Config::from_variables(&variables(&PRODUCTION)).unwrap();
    let shown = format!("{:?} {config:?}", config.settings());
    let mut pairs = variables(&PRODUCTION);
    pairs.insert("BROKER_API_TOKEN".into(), "geheim✓".into());
    let message = Config::from_variables(&pairs).unwrap_err().to_string();
    for secret in ["track-1", "track-2", "admin-1", "geheim"] {
        assert!(
            !shown.contains(secret) && !message.contains(secret),
            "{secret}"
        );
    }
}

#[test]
fn retired_variables_are_accepted_with_a_warning() {
    let config = Config::from_variables(&variables(&[("K_CANDIDATES", "15")])).unwrap();
    assert!(config.warnings()[0].starts_with("K_CANDIDATES has no effect"));
}

#[test]
fn csp_token_in_clear_text_causes_a_warning() {
    let mut pairs = variables(&PRODUCTION);
    pairs.insert("CSP_BASE_URL".into(), "http://csp.example.com/v2".into());
    let config = Config::from_variables(&pairs).unwrap();
    assert!(
        config.warnings()[0].contains("in clear text"),
        "{:?}",
        config.warnings()
    );
}

const SECRETS: [&str; 4] = [
    "BROKER_API_TOKEN",
    "BROKER_ADMIN_TOKEN",
    "CSP_API_TOKEN",
    "NIOSXAAS_PASSWORD",
];

/// Some variables of the broker, with valid and invalid values.
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
    fn any_variables_are_a_configuration_within_bounds_or_faults(variables in any_variables()) {
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
    fn no_secret_is_ever_shown(
        secret in "(zq[!-~]{0,20}qz|zq[^,]{0,20}qz)",
        variable in proptest::sample::select(SECRETS.to_vec()),
        mut variables in any_variables(),
    ) {
        variables.insert(variable.to_owned(), secret.clone());
        let message = match Config::from_variables(&variables) {
            Ok(config) => format!("{config:?} {:?} {:?}", config.settings(), config.warnings()),
            Err(error) => format!("{error} {error:?}"),
        };
        prop_assert!(!message.contains(&secret), "{message}");
    }
}
