//! Classification of URLs.

use std::net::IpAddr;

use axum::http::Uri;

/// Returns whether the host of `url` is a loopback address. An invalid URL is not one.
#[must_use]
pub(crate) fn is_loopback_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    uri.host().is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}
