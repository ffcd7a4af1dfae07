//! Tests of valid, invalid and unsafe configurations.

mod csp_user;
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
fn refused_values_are_shown_without_their_secrets() {
    for (variable, value) in [
        ("CSP_BASE_URL", "https://me:hunter2@csp.example.com/v2"),
        ("CSP_BASE_URL", "me:hunter2@csp.example.com"),
        ("NIOSXAAS_BASE_URL", "https://csp.example.com/?key=hunter2"),
        ("DDB_ENDPOINT_URL", "http://me:hunter2@127.0.0.1:8000"),
        ("SECRETS_ENDPOINT_URL", "http://127.0.0.1:8000#hunter2"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://me:hunter2@collector:4318",
        ),
        (
            "CORS_ALLOWED_ORIGINS",
            "https://a.example.com,https://me:hunter2@b.example.com",
        ),
        ("HOST", "http://me:hunter2@127.0.0.1"),
        ("STORE", "dynamodb://me:hunter2@table"),
        ("BROKER_API_TOKEN_SECRET_ID", "hunter2 hunter2"),
        ("BROKER_API_TOKEN", "hunter2 hunter2"),
        ("CSP_API_TOKEN", "hunter2\nhunter2"),
    ] {
        let error = Config::from_variables(&variables(&[(variable, value)])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(variable), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains(REDACTED), "{text}");
    }
}

#[test]
fn shared_pool_requires_own_tokens_of_each_role() {
    assert!(production_with(&[]).is_empty());
    for (variable, value) in [
        ("BROKER_API_TOKEN", ""),
        ("BROKER_ADMIN_TOKEN", DEFAULT_ADMIN_TOKEN),
        ("BROKER_API_TOKEN", " , "),
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
        production_with(&[("REFILL_SETTLE_SEC", "39")]),
        ["REFILL_SETTLE_SEC"]
    );
    assert_eq!(
        production_with(&[("DDB_COMPANION_TABLE_NAME", "SandboxPool")]),
        ["DDB_COMPANION_TABLE_NAME"]
    );
    assert_eq!(
        faulty(&[
            ("CSP_MODE", "live"),
            ("BROKER_API_TOKEN", "track-1"),
            ("BROKER_ADMIN_TOKEN", "admin-1")
        ]),
        ["CSP_API_TOKEN"]
    );
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
    assert!(has_warning(&config, "K_CANDIDATES has no effect"));
}

fn has_warning(config: &Config, part: &str) -> bool {
    config
        .warnings()
        .iter()
        .any(|warning| warning.contains(part))
}

fn production() -> Variables {
    variables(&PRODUCTION)
}

fn production_config(pairs: &[(&str, &str)]) -> Config {
    let mut all = production();
    all.extend(variables(pairs));
    Config::from_variables(&all).unwrap()
}

#[test]
fn secret_that_is_set_but_empty_is_rejected() {
    for variable in [
        "BROKER_API_TOKEN",
        "BROKER_ADMIN_TOKEN",
        "CSP_API_TOKEN",
        "NIOSXAAS_PASSWORD",
        "BROKER_API_TOKEN_SECRET_ID",
        "BROKER_ADMIN_TOKEN_SECRET_ID",
        "CSP_API_TOKEN_SECRET_ID",
        "NIOSXAAS_SECRET_ID",
    ] {
        for empty in ["", "  ", "\"\"", "''", "\"", "\" \""] {
            assert_eq!(faulty(&[(variable, empty)]), [variable], "{empty:?}");
        }
    }
    // Nothing takes the place of a secret that is set otherwise.
    assert!(production_with(&[("BROKER_API_TOKEN_SECRET_ID", "")]).is_empty());
    assert!(
        faulty(&[
            ("BROKER_API_TOKEN", ""),
            ("BROKER_API_TOKEN_SECRET_ID", "broker/track")
        ])
        .is_empty()
    );
}

#[test]
fn public_token_is_accepted_with_a_warning_on_a_simulated_pool_of_this_machine_only() {
    for (variable, token) in [
        ("BROKER_API_TOKEN", "dev_token_change_me"),
        ("BROKER_ADMIN_TOKEN", "admin_token_change_me"),
        ("BROKER_API_TOKEN", "your_track_token_here"),
        ("BROKER_ADMIN_TOKEN", "dev-track-token"),
    ] {
        assert_eq!(production_with(&[(variable, token)]), [variable], "{token}");
        let laptop = Config::from_variables(&variables(&[(variable, token)])).unwrap();
        assert!(has_warning(
            &laptop,
            "everybody knows the token in BROKER_API_TOKEN and in BROKER_ADMIN_TOKEN"
        ));
    }
    let live = [("CSP_MODE", "live"), ("CSP_API_TOKEN", "csp")];
    assert_eq!(faulty(&live), ["BROKER_API_TOKEN", "BROKER_ADMIN_TOKEN"]);
    let simulator = ("CSP_BASE_URL", "http://127.0.0.1:8081/v2");
    assert!(faulty(&[live[0], live[1], simulator]).is_empty());
    // Clients of a proxy are elsewhere, and the proxy may name this machine as the host.
    let proxy = ("TRUSTED_PROXY_HOPS", "1");
    assert_eq!(faulty(&[proxy]), ["BROKER_API_TOKEN", "BROKER_ADMIN_TOKEN"]);
    assert!(production_config(&[]).warnings().is_empty());
}

#[test]
fn named_token_in_the_environment_causes_a_warning() {
    let token = "sbt_3f2a6c1e8f0b4a7e_secret";
    for (variable, principal) in [
        ("BROKER_API_TOKEN", "env-track"),
        ("BROKER_ADMIN_TOKEN", "env-admin"),
    ] {
        let config = production_config(&[(variable, token)]);
        assert_eq!(config.warnings().len(), 1, "{:?}", config.warnings());
        assert!(has_warning(&config, &format!("{variable} has a token")));
        assert!(has_warning(&config, &format!("acts as {principal}")));
        assert!(!has_warning(&config, token));
    }
}

#[test]
fn settings_of_a_pool_elsewhere_are_rejected_until_store_and_mode_say_what_is_meant() {
    for pair in [
        ("DDB_TABLE_NAME", "SandboxPool"),
        ("DDB_GSI1_NAME", "StatusIndex"),
        ("DDB_ENDPOINT_URL", "http://127.0.0.1:8000"),
        ("CSP_BASE_URL", "https://csp.infoblox.com/v2"),
        ("CSP_API_TOKEN", "csp"),
        ("CSP_API_TOKEN_SECRET_ID", "broker/csp"),
    ] {
        assert_eq!(faulty(&[pair]), ["STORE"], "{pair:?}");
        let (embedded, simulated) = (("STORE", "embedded"), ("CSP_MODE", "simulated"));
        assert!(faulty(&[pair, embedded, simulated]).is_empty(), "{pair:?}");
        let is_of_csp = pair.0.starts_with("CSP");
        let expected: &[&str] = if is_of_csp { &["CSP_MODE"] } else { &[] };
        assert_eq!(faulty(&[pair, embedded]), expected, "{pair:?}");
        let expected: &[&str] = if is_of_csp { &[] } else { &["STORE"] };
        assert_eq!(faulty(&[pair, simulated]), expected, "{pair:?}");
    }
    let message = Config::from_variables(&variables(&[
        ("DDB_TABLE_NAME", "SandboxPool"),
        ("CSP_API_TOKEN", "csp"),
    ]))
    .unwrap_err()
    .to_string();
    assert!(
        message.contains("STORE: got nothing, although DDB_TABLE_NAME, CSP_API_TOKEN is set"),
        "{message}"
    );
}

#[test]
fn settings_with_which_the_fastapi_service_simulated_csp_are_rejected_in_live_mode() {
    for pair in [
        ("CSP_API_TOKEN", "your_csp_token_here"),
        ("CSP_BASE_URL", ""),
    ] {
        assert_eq!(production_with(&[pair]), [pair.0]);
        assert!(faulty(&[pair]).is_empty());
        assert!(faulty(&[pair, ("CSP_MODE", "simulated")]).is_empty());
    }
}

#[test]
fn values_that_the_fastapi_service_took_are_taken() {
    for (variable, value) in [
        ("LOG_FORMAT", "text"),
        ("LOG_LEVEL", "CRITICAL"),
        ("LOG_LEVEL", "Fatal"),
        ("NIOSXAAS_SHADOW_MODE", "ON"),
        ("NIOSXAAS_SHADOW_MODE", "off"),
        ("NIOSXAAS_SHADOW_MODE", "T"),
        ("NIOSXAAS_ENABLED", "n"),
        (
            "CORS_ALLOWED_ORIGINS",
            "https://ops.example.com/, http://localhost:3000/",
        ),
        ("CORS_ALLOWED_ORIGINS", "https://ops.example.com,*"),
        ("CLEANUP_BATCH_DELAY_SEC", "2.0"),
        ("SYNC_INTERVAL_SEC", "600.0"),
        ("LAB_DURATION_HOURS", "+4"),
        ("BACKOFF_BASE_MS", "9000"),
        ("CLEANUP_PER_SANDBOX_DELAY_SEC", "120"),
        ("BROKER_ADMIN_TOKEN", "track-2"),
    ] {
        assert!(
            production_with(&[(variable, value)]).is_empty(),
            "{variable}={value}"
        );
    }
    assert_eq!(
        production_with(&[("SYNC_INTERVAL_SEC", "600.5")]),
        ["SYNC_INTERVAL_SEC"]
    );
    let config = production_config(&[("BROKER_ADMIN_TOKEN", "track-2")]);
    assert!(has_warning(
        &config,
        "BROKER_ADMIN_TOKEN has a token that is also in BROKER_API_TOKEN"
    ));
}

#[test]
fn names_are_found_in_any_case_and_upper_case_takes_precedence() {
    let config = Config::from_variables(&variables(&[
        ("port", "9000"),
        ("Log_Level", "debug"),
        ("host", "::1"),
        ("HOST", "127.0.0.2"),
    ]))
    .unwrap();
    assert_eq!(config.http.address(), "127.0.0.2:9000".parse().unwrap());
    assert_eq!(config.log.level, tracing::Level::DEBUG);
}

#[test]
fn region_of_aws_default_region_is_used_if_aws_region_is_not_set() {
    let default = ("AWS_DEFAULT_REGION", "eu-central-1");
    assert_eq!(production_config(&[default]).store.region, "eu-central-1");
    let both = production_config(&[default, ("AWS_REGION", "eu-west-1")]);
    assert_eq!(both.store.region, "eu-west-1");
    assert_eq!(
        production_with(&[("AWS_DEFAULT_REGION", "EU")]),
        ["AWS_DEFAULT_REGION"]
    );
}

#[test]
fn quotes_and_json_around_a_secret_are_not_part_of_it() {
    use secrecy::ExposeSecret;
    for (text, tokens) in [
        ("\"abc\"", vec!["abc"]),
        ("'abc,def'", vec!["abc", "def"]),
        ("\"abc\",'def'", vec!["abc", "def"]),
        (r#"{"token":"abc"}"#, vec!["abc"]),
        (r#"{"BROKER_API_TOKEN": "abc, def"}"#, vec!["abc", "def"]),
        ("a\"b", vec!["a\"b"]),
    ] {
        let config = production_config(&[("BROKER_API_TOKEN", text)]);
        let read: Vec<_> = config
            .auth
            .track_tokens
            .iter()
            .map(ExposeSecret::expose_secret)
            .collect();
        assert_eq!(read, tokens, "{text}");
    }
    let config = production_config(&[
        ("CSP_API_TOKEN", "'csp-1'"),
        ("NIOSXAAS_SERVICE_NAME", "\"x\""),
    ]);
    assert_eq!(config.csp.token.as_ref().unwrap().expose_secret(), "csp-1");
    for variable in ["CSP_API_TOKEN", "NIOSXAAS_SERVICE_NAME"] {
        assert!(has_warning(&config, &format!("{variable} is in quotes")));
    }
    for wrong in [r#"{"user": "x", "key": "y"}"#, r#"{"token": ""}"#] {
        assert_eq!(
            production_with(&[("CSP_API_TOKEN", wrong)]),
            ["CSP_API_TOKEN"]
        );
    }
}

#[test]
fn variables_without_effect_cause_one_warning_each() {
    for (pair, warning) in [
        (
            ("ENABLE_REQUEST_ID", "true"),
            "ENABLE_REQUEST_ID has no effect",
        ),
        (
            ("niosxaas_per_sandbox_delay_sec", "30"),
            "NIOSXAAS_PER_SANDBOX_DELAY_SEC has no effect",
        ),
        (
            ("AWS_CA_BUNDLE", "/ca.pem"),
            "AWS_CA_BUNDLE has no effect: SSL_CERT_FILE",
        ),
        (
            ("DATA_DIR", "/data"),
            "DATA_DIR has no effect with STORE=dynamodb",
        ),
        (
            ("SIMULATOR_ACCOUNTS", "5"),
            "SIMULATOR_ACCOUNTS has no effect with CSP_MODE=live",
        ),
        (
            ("BROKER_API_TOKENS", "x"),
            "BROKER_API_TOKENS is not a variable of this broker; did you mean BROKER_API_TOKEN?",
        ),
        (
            ("CLEANUP_BATCH_SIZ", "5"),
            "did you mean CLEANUP_BATCH_SIZE?",
        ),
        (
            ("API_BASE_PATH", ""),
            "API_BASE_PATH is empty, so it is /v1",
        ),
        (
            ("AWS_PROFILE", "production"),
            "AWS_REGION is not set; the region of AWS_PROFILE is not used",
        ),
        (
            ("BACKOFF_MAX_MS", "10"),
            "BACKOFF_BASE_MS is more than BACKOFF_MAX_MS",
        ),
    ] {
        let config = production_config(&[pair]);
        assert_eq!(config.warnings().len(), 1, "{:?}", config.warnings());
        assert!(has_warning(&config, warning), "{:?}", config.warnings());
    }
    let foreign = [
        ("AWS_REGIONS", "x"),
        ("ECS_AVAILABLE_LOGGING_DRIVERS", "x"),
        ("HOME", "/"),
        ("HOSTS", "x"),
    ];
    assert!(production_config(&foreign).warnings().is_empty());
}

#[test]
fn csp_token_in_clear_text_causes_a_warning() {
    let mut pairs = variables(&PRODUCTION);
    pairs.insert("CSP_BASE_URL".into(), "http://csp.example.com/v2".into());
    let config = Config::from_variables(&pairs).unwrap();
    assert!(
        has_warning(&config, "in clear text"),
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

const SIGNER_ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/broker/0123456789abcdef";

#[test]
fn sign_in_at_the_load_balancer_is_on_with_the_arn_of_the_signer() {
    let config = Config::from_variables(&variables(&[
        ("ALB_OIDC_SIGNER_ARN", SIGNER_ARN),
        ("ALB_OIDC_VIEWERS", "group:*, email:Jo@example.com"),
    ]))
    .unwrap();
    let load_balancer = config.load_balancer.as_ref().unwrap();
    assert_eq!(
        load_balancer.keys_url,
        "https://public-keys.auth.elb.eu-west-1.amazonaws.com"
    );
    assert_eq!(load_balancer.groups_claim, "groups");
    let shown = config
        .settings()
        .iter()
        .find(|setting| setting.variable == "ALB_OIDC_VIEWERS");
    assert_eq!(shown.unwrap().value, "group:*,email:jo@example.com");
    assert!(
        Config::from_variables(&Variables::new())
            .unwrap()
            .load_balancer
            .is_none()
    );
}

#[test]
fn unsafe_or_useless_sign_in_at_the_load_balancer_is_refused() {
    let with = |pairs: &[(&str, &str)]| {
        let signer = [
            ("ALB_OIDC_SIGNER_ARN", SIGNER_ARN),
            ("ALB_OIDC_ADMINS", "email:jo@example.com"),
        ];
        let mut all = variables(&signer);
        all.extend(variables(pairs));
        let read = Config::from_variables(&all);
        let faults = read.err().map(|error| error.faults);
        let faults = faults.unwrap_or_default();
        faults
            .iter()
            .map(|fault| fault.variable)
            .collect::<Vec<_>>()
    };
    assert!(with(&[("ALB_OIDC_KEYS_URL", "http://127.0.0.1:9000/keys")]).is_empty());
    for (variable, value) in [
        ("ALB_OIDC_SIGNER_ARN", "broker"),
        ("ALB_OIDC_ADMINS", ""),
        ("ALB_OIDC_ADMINS", "jo@example.com"),
        ("ALB_OIDC_VIEWERS", "group:a,everybody"),
        ("ALB_OIDC_KEYS_URL", "http://keys.example.com"),
        ("ALB_OIDC_GROUPS_CLAIM", "my groups"),
    ] {
        assert_eq!(with(&[(variable, value)]), [variable], "{value}");
    }
    let in_china = SIGNER_ARN.replace("arn:aws:", "arn:aws-cn:");
    assert_eq!(
        with(&[("ALB_OIDC_SIGNER_ARN", &in_china)]),
        ["ALB_OIDC_KEYS_URL"]
    );
    let url = ("ALB_OIDC_KEYS_URL", "https://keys.example.com");
    assert!(with(&[("ALB_OIDC_SIGNER_ARN", &in_china), url]).is_empty());
}

#[test]
fn settings_of_sign_in_without_the_arn_of_the_signer_cause_a_warning() {
    let config = Config::from_variables(&variables(&[("ALB_OIDC_ADMINS", "group:a")])).unwrap();
    let warning = "ALB_OIDC_ADMINS has no effect without ALB_OIDC_SIGNER_ARN";
    assert!(
        config.warnings().iter().any(|text| text == warning),
        "{:?}",
        config.warnings()
    );
}
