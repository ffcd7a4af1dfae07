//! The settings of the log and of the collector of traces.

use super::{URL, parse_url, reader::Reader};
use crate::{
    store::Engine,
    telemetry::{LogConfig, LogFormat},
};

pub(super) fn read_log(reader: &mut Reader<'_>, engine: Engine) -> LogConfig {
    use tracing::Level;
    LogConfig {
        // The names of Python's levels are those that the FastAPI service took.
        level: reader.choice(
            "LOG_LEVEL",
            Level::INFO,
            &[
                ("error", Level::ERROR),
                ("critical", Level::ERROR),
                ("fatal", Level::ERROR),
                ("warn", Level::WARN),
                ("warning", Level::WARN),
                ("info", Level::INFO),
                ("debug", Level::DEBUG),
                ("trace", Level::TRACE),
            ],
        ),
        format: reader.choice(
            "LOG_FORMAT",
            if engine == Engine::Embedded {
                LogFormat::Pretty
            } else {
                LogFormat::Json
            },
            &[
                ("json", LogFormat::Json),
                ("pretty", LogFormat::Pretty),
                // The name that the FastAPI service used for any form but JSON.
                ("text", LogFormat::Pretty),
            ],
        ),
    }
}

pub(super) fn read_otlp_endpoint(reader: &mut Reader<'_>) -> Option<String> {
    let variable = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let endpoint = reader.optional(variable, URL, parse_url);
    if let Some(endpoint) = &endpoint
        && endpoint.ends_with("/v1/traces")
    {
        reader.refuse(
            variable,
            format!("{endpoint:?}"),
            "the collector's address alone; /v1/traces is added to it",
        );
    }
    endpoint
}
