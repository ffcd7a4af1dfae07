//! Variables that are set without effect: those of the FastAPI service that this broker does not use, those that
//! another setting turns off, and probable typing errors.

use super::reader::Reader;
use crate::{csp::CspMode, store::Engine};

/// Variables of the FastAPI service and its libraries without effect here, and the reason.
const RETIRED: [(&str, &str); 9] = [
    (
        "K_CANDIDATES",
        "candidates come from an index of the whole pool",
    ),
    ("WEB_CONCURRENCY", "one process uses every core"),
    ("UVICORN_HOST", "HOST is the address to listen on"),
    ("UVICORN_PORT", "PORT is the port to listen on"),
    ("ENABLE_REQUEST_ID", "every answer has an X-Request-ID"),
    (
        "NIOSXAAS_CLEANUP_INTERVAL_SEC",
        "cleanup deletes the services too, every CLEANUP_INTERVAL_SEC",
    ),
    (
        "NIOSXAAS_PER_SANDBOX_DELAY_SEC",
        "CLEANUP_PER_SANDBOX_DELAY_SEC is the pause between two sandboxes",
    ),
    ("JOB_TYPE", "a job is a subcommand, such as `job sync`"),
    (
        "AWS_CA_BUNDLE",
        "SSL_CERT_FILE and SSL_CERT_DIR name the certificate authorities",
    ),
];

/// Warns of every variable that is set without effect. Called when all variables have been read.
pub(super) fn warn_of_unused(reader: &mut Reader<'_>, engine: Engine, mode: CspMode) {
    let (turned_off_by_store, store): (&[&str], _) = match engine {
        Engine::Embedded => (&["DDB_ENDPOINT_URL"], "STORE=embedded"),
        Engine::DynamoDb => (&["DATA_DIR"], "STORE=dynamodb"),
    };
    let (turned_off_by_mode, csp): (&[&str], _) = match mode {
        CspMode::Simulated => (&["CSP_BASE_URL", "CSP_API_TOKEN"], "CSP_MODE=simulated"),
        CspMode::Live => (&["SIMULATOR_ACCOUNTS"], "CSP_MODE=live"),
    };
    let turned_off = (turned_off_by_store.iter().map(|name| (*name, store)))
        .chain(turned_off_by_mode.iter().map(|name| (*name, csp)));
    let mut warnings: Vec<_> = RETIRED
        .into_iter()
        .filter(|(name, _)| reader.raw(name).is_some())
        .map(|(name, reason)| format!("{name} has no effect: {reason}"))
        .collect();
    warnings.extend(
        turned_off
            .filter(|(name, _)| reader.raw(name).is_some())
            .map(|(name, reason)| format!("{name} has no effect with {reason}")),
    );
    let has_region = ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .iter()
        .any(|name| reader.raw(name).is_some());
    if engine == Engine::DynamoDb && !has_region && reader.raw("AWS_PROFILE").is_some() {
        warnings.push("AWS_REGION is not set; the region of AWS_PROFILE is not used".to_owned());
    }
    let known: Vec<_> = reader
        .known()
        .chain(RETIRED.map(|(name, _)| name))
        .collect();
    warnings.extend(reader.names().filter_map(|name| {
        let meant = intended(name, &known)?;
        Some(format!(
            "{name} is not a variable of this broker; did you mean {meant}?"
        ))
    }));
    for warning in warnings {
        reader.warn(warning);
    }
}

/// Prefixes of variables that belong to AWS and to OpenTelemetry, which have many similar names.
const FOREIGN: [&str; 3] = ["AWS_", "ECS_", "OTEL_"];
/// Shorter names resemble names of other programs.
const MIN_LENGTH: usize = 8;
/// From this length on, a name may have two typing errors.
const LONG: usize = 12;

/// Returns the known variable that was probably meant by an unknown name.
fn intended<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let is_foreign = |name: &str| FOREIGN.iter().any(|prefix| name.starts_with(prefix));
    if known.contains(&name) || is_foreign(name) {
        return None;
    }
    let candidates = known
        .iter()
        .filter(|known| known.len() >= MIN_LENGTH && !is_foreign(known));
    let (distance, best) = candidates
        .map(|known| (strsim::osa_distance(name, known), *known))
        .min_by_key(|(distance, _)| *distance)?;
    let allowed = if best.len() < LONG { 1 } else { 2 };
    (distance <= allowed)
        .then_some(best)
        .or_else(|| extended(name, known))
}

/// Returns the known variable that `name` continues or shortens by whole words: `BROKER_API_TOKEN_FILE`,
/// `SYNC_INTERVAL`.
fn extended<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let continues = |long: &str, short: &str| {
        short.len() >= MIN_LENGTH
            && long
                .strip_prefix(short)
                .is_some_and(|rest| rest.starts_with('_'))
    };
    let related = known
        .iter()
        .copied()
        .filter(|known| continues(name, known) || continues(known, name));
    related.max_by_key(|known| known.len().min(name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Variables};

    #[test]
    fn intended_variable_is_found_for_near_names_only() {
        let config = Config::from_variables(&Variables::new()).unwrap();
        let known: Vec<_> = config
            .settings()
            .iter()
            .map(|setting| setting.variable)
            .collect();
        for (name, meant) in [
            ("BROKER_API_TOKENS", "BROKER_API_TOKEN"),
            ("BROKER_APITOKEN", "BROKER_API_TOKEN"),
            ("BROKER_API_TOKEN_FILE", "BROKER_API_TOKEN"),
            ("CLEANUP_BATCH_SIZ", "CLEANUP_BATCH_SIZE"),
            ("LOG_LEVLE", "LOG_LEVEL"),
            ("NIOSXASS_ENABLED", "NIOSXAAS_ENABLED"),
            ("SYNC_INTERVAL", "SYNC_INTERVAL_SEC"),
            ("SYNC_INTERVAL_SEC_", "SYNC_INTERVAL_SEC"),
        ] {
            assert_eq!(intended(name, &known), Some(meant), "{name}");
        }
        for name in [
            "AWS_REGIONS",
            "AWS_PROFILE",
            "BROKER_API_URL",
            "BROKER_CALLER",
            "BROKER_CONTEXT",
            "BROKER_TEST_DYNAMODB_ENDPOINT",
            "ECS_CONTAINER_METADATA_URI_V4",
            "HOME",
            "HOSTS",
            "HOSTNAME",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "PORTS",
            "PATH",
            "RUST_LOG",
            "SHELL",
            "TZ",
            "LOG_LEVEL",
        ] {
            assert_eq!(intended(name, &known), None, "{name}");
        }
    }
}
