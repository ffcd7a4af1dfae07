//! The settings of the API: address, path and limits of admission.

use std::{net::IpAddr, time::Duration};

use axum::http::{HeaderValue, Uri};

use super::{
    parse_url,
    reader::{Reader, number_in},
};
use crate::http::{
    EdgeConfig, HttpConfig,
    middleware::{cors::Cors, rate_limit::Quota},
};

pub(super) fn read_http(reader: &mut Reader<'_>) -> HttpConfig {
    let http = HttpConfig {
        host: reader.parsed(
            "HOST",
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::to_string,
            "an IP address, such as 127.0.0.1 or 0.0.0.0",
            |text| text.parse().ok(),
        ),
        port: reader.number("PORT", 8080, 0..=u16::MAX),
        base_path: reader.string("API_BASE_PATH", "/v1", BASE_PATH, parse_base_path),
        metrics_port: reader.optional("METRICS_PORT", number_in(&(0..=u16::MAX)), |text| {
            text.parse().ok()
        }),
        // Longer than the 60 s of a load balancer, so that the load balancer closes idle connections first.
        keep_alive: reader.duration("KEEP_ALIVE_SEC", 75, 1..=3600, Duration::from_secs),
        shutdown_delay: reader.duration("SHUTDOWN_DELAY_SEC", 0, 0..=600, Duration::from_secs),
        shutdown_timeout: reader.duration("SHUTDOWN_TIMEOUT_SEC", 25, 1..=600, Duration::from_secs),
        edge: EdgeConfig {
            trusted_hops: reader.number("TRUSTED_PROXY_HOPS", 0, 0..=10),
            per_caller: Quota {
                per_second: reader.number("RATE_LIMIT_PER_SEC", 50, 1..=100_000),
                burst: reader.number("RATE_LIMIT_BURST", 200, 1..=1_000_000),
            },
            per_address: Quota {
                per_second: reader.number("RATE_LIMIT_ADDRESS_PER_SEC", 1_000, 1..=100_000),
                burst: reader.number("RATE_LIMIT_ADDRESS_BURST", 4_000, 1..=1_000_000),
            },
            max_in_flight: reader.number("MAX_IN_FLIGHT", 4_096, 1..=100_000),
            cors: reader.parsed(
                "CORS_ALLOWED_ORIGINS",
                Cors::Origins(Vec::new()),
                Cors::to_string,
                ORIGINS,
                parse_origins,
            ),
        },
    };
    if reader.is_empty("API_BASE_PATH") {
        reader.warn("API_BASE_PATH is empty, so it is /v1; set it to / for the root");
    }
    if http.port != 0 && http.metrics_port == Some(http.port) {
        reader.refuse(
            "METRICS_PORT",
            format!("{}, which is also PORT", http.port),
            "another port, or nothing for metrics on PORT",
        );
    }
    http
}

const BASE_PATH: &str =
    "a path of letters, digits, '-', '_', '.' and '~', such as /v1, or / for none";

/// Returns the path without a slash at the end; empty for the root.
fn parse_base_path(text: &str) -> Option<String> {
    let path = text.trim_end_matches('/');
    let segments_are_plain = path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|segment| {
            !segment.trim_matches('.').is_empty()
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
        })
    });
    (path.is_empty() || segments_are_plain).then(|| path.to_owned())
}

const ORIGINS: &str =
    "origins as browsers send them, such as https://ops.example.com, separated by commas; or *";

fn parse_origins(text: &str) -> Option<Cors> {
    let entries = || {
        text.split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
    };
    if entries().any(|entry| entry == "*") {
        return Some(Cors::Any);
    }
    let origins: Option<_> = entries().map(parse_origin).collect();
    origins.map(Cors::Origins)
}

/// Returns an origin as browsers send it: a scheme, a host in lower case and, unless it is the default, a port. A path
/// other than `/` is no part of an origin.
fn parse_origin(text: &str) -> Option<HeaderValue> {
    let uri: Uri = parse_url(&text.to_ascii_lowercase())?.parse().ok()?;
    let (scheme, host) = (uri.scheme_str()?, uri.host()?);
    let is_name = |host: &str| {
        host.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
    };
    let is_plain = is_name(host) || host.starts_with('[');
    let default_port = if scheme == "https" { 443 } else { 80 };
    let has_port = uri.authority()?.as_str() != host;
    let port = match uri.port_u16() {
        Some(port) if port != default_port => format!(":{port}"),
        // The port is no valid number.
        None if has_port => return None,
        Some(_) | None => String::new(),
    };
    let origin = format!("{scheme}://{host}{port}");
    (is_plain && uri.path() == "/").then(|| HeaderValue::from_str(&origin).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_path_may_be_the_root() {
        assert_eq!(parse_base_path("/").unwrap(), "");
        assert_eq!(parse_base_path("/api/v1/").unwrap(), "/api/v1");
        assert!(parse_base_path("v1").is_none());
        assert!(parse_base_path("/{id}").is_none());
    }

    #[test]
    fn origin_has_the_form_that_browsers_send() {
        assert_eq!(parse_origins("*").unwrap(), Cors::Any);
        let two = parse_origins("https://ops.example.com, http://localhost:3000").unwrap();
        assert_eq!(
            two.to_string(),
            "https://ops.example.com,http://localhost:3000"
        );
        assert_eq!(parse_origins("https://a.example.com,*").unwrap(), Cors::Any);
        for same in [
            "https://ops.example.com/",
            "HTTPS://Ops.Example.com",
            "https://ops.example.com:443/",
        ] {
            let origin = parse_origins(same).unwrap();
            assert_eq!(origin.to_string(), "https://ops.example.com", "{same}");
        }
        for wrong in [
            "ops.example.com",
            "https://ops.example.com/page",
            "null",
            "https://*.example.com",
            "http://a.example.com:99999",
            "https://a.example.com:",
            "https://a..b",
        ] {
            assert!(parse_origins(wrong).is_none(), "{wrong}");
        }
    }
}
