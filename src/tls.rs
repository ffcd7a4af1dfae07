//! Connections over TLS: the certificate authorities that they need, and HTTP clients. Connections without TLS must
//! work without certificate authorities.

use std::env;

use thiserror::Error;

use crate::url::is_loopback_url;

/// The variables that name certificate authorities in place of those of the system.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The error for a machine, or for settings, without any certificate authority.
#[derive(Debug, Error)]
#[error("{url} needs certificate authorities, but none can be read from {place}{faults}; {remedy}")]
pub struct NoAuthorities {
    url: String,
    place: String,
    faults: String,
    remedy: &'static str,
}

/// Checks that certificate authorities can be read if `url` needs them. A URL of AWS that is not configured counts as
/// one that does.
///
/// # Errors
/// [`NoAuthorities`].
pub(crate) fn check_authorities(url: &str) -> Result<(), NoAuthorities> {
    if is_plain(url) {
        return Ok(());
    }
    let result = rustls_native_certs::load_native_certs();
    if !result.certs.is_empty() {
        return Ok(());
    }
    let set: Vec<_> = VARIABLES
        .iter()
        .filter_map(|variable| Some(format!("{variable}={}", env::var_os(variable)?.display())))
        .collect();
    let (place, remedy) = if set.is_empty() {
        (
            "the system's files".to_owned(),
            "install them (usually the package ca-certificates), or set SSL_CERT_FILE to a file in PEM format",
        )
    } else {
        (
            set.join(" and "),
            "set it to a file in PEM format, or remove it for those of the system",
        )
    };
    let faults = result.errors.iter().map(|fault| format!(": {fault}"));
    Err(NoAuthorities {
        url: url.to_owned(),
        place,
        faults: faults.collect(),
        remedy,
    })
}

/// Returns the builder of an HTTP client for `url`, which follows no redirects.
pub(crate) fn http_client(url: &str) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("sandbox-broker/", env!("CARGO_PKG_VERSION")));
    // Without TLS, certificate authorities that cannot be read are no fault.
    let builder = if is_plain(url) {
        builder.tls_certs_only([])
    } else {
        builder
    };
    // A proxy named in the environment cannot reach a loopback address of this machine.
    if is_loopback_url(url) {
        builder.no_proxy()
    } else {
        builder
    }
}

/// Whether connections to `url` are made without TLS.
pub(crate) fn is_plain(url: &str) -> bool {
    url.starts_with("http://")
}
