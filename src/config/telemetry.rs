//! What is logged and how, and where traces go.

use super::{parse_url, reader::Reader};
use crate::{
    store::Engine,
    telemetry::{LogConfig, LogFormat},
};

pub(super) fn read_log(reader: &mut Reader<'_>, engine: Engine) -> LogConfig {
    use tracing::Level;
    LogConfig {
        // The FastAPI service took Python's names.
        level: reader.choice(
            "LOG_LEVEL",
            Level::INFO,
            &[
                ("error", Level::ERROR),
                ("critical", Level::ERROR),
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
            &[("json", LogFormat::Json), ("pretty", LogFormat::Pretty)],
        ),
    }
}

pub(super) fn parse_collector(text: &str) -> Result<String, String> {
    let url = parse_url(text)?;
    if url.ends_with("/v1/traces") {
        return Err("the collector's address alone; /v1/traces is added to it".to_owned());
    }
    Ok(url)
}
