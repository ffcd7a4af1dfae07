//! The address of the client of a request.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Once},
};

use axum::{extract::Request, http::HeaderMap};

use crate::http::{headers::X_FORWARDED_FOR, network, server::PeerAddress};

/// The address of the client: a request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// Returns the unit that rate limits apply to.
    #[must_use]
    pub(crate) fn network(self) -> IpAddr {
        network::of_client(self.0)
    }
}

/// The proxies in front of the broker. Clones share the warning.
#[derive(Clone, Debug)]
pub(crate) struct TrustedProxies {
    hops: usize,
    /// Limits the warning of an untrusted proxy to one.
    warning: Arc<Once>,
}

impl TrustedProxies {
    /// Trusts the `hops` proxies next to the broker (`TRUSTED_PROXY_HOPS`).
    #[must_use]
    pub(crate) fn new(hops: usize) -> Self {
        Self {
            hops,
            warning: Arc::new(Once::new()),
        }
    }

    /// Determines the address of the client, and adds it to the extensions of the request.
    pub(crate) fn identify(&self, request: &mut Request) -> ClientAddress {
        let peer = request
            .extensions()
            .get::<PeerAddress>()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
        let address = ClientAddress(forwarded_for(request.headers(), self.hops).unwrap_or(peer));
        if self.hops == 0 && request.headers().contains_key(X_FORWARDED_FOR) {
            self.warning.call_once(|| {
                tracing::warn!(
                    %peer,
                    "X-Forwarded-For is ignored, because TRUSTED_PROXY_HOPS is 0: if a proxy is in front of the broker, \
                     set it, because now all clients of the proxy share the limits of one address"
                );
            });
        }
        request.extensions_mut().insert(address);
        address
    }
}

/// Returns the address that the outermost trusted proxy received the request from. Each proxy appends an address, so
/// entries further left are the client's own and not to be trusted.
fn forwarded_for(headers: &HeaderMap, trusted_hops: usize) -> Option<IpAddr> {
    let values = headers.get_all(X_FORWARDED_FOR).iter().rev();
    // Split as bytes: entries of the client need not be text, and must not make the others unreadable.
    let mut from_the_right = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    let entry = from_the_right.nth(trusted_hops.checked_sub(1)?)?;
    read_address(std::str::from_utf8(entry).ok()?.trim())
}

/// Reads an address with or without a port; some proxies add the port.
fn read_address(text: &str) -> Option<IpAddr> {
    text.parse()
        .ok()
        .or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn forwarded(values: &[&'static str], hops: usize) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(value));
        }
        forwarded_for(&headers, hops).map(|address| address.to_string())
    }

    #[test]
    fn only_entries_of_trusted_proxies_count() {
        let values = ["6.6.6.6, 10.0.0.1", "198.51.100.7"];
        assert_eq!(forwarded(&values, 0), None);
        assert_eq!(forwarded(&values, 1).as_deref(), Some("198.51.100.7"));
        assert_eq!(forwarded(&values, 2).as_deref(), Some("10.0.0.1"));
        assert_eq!(forwarded(&values, 4), None);
        assert_eq!(forwarded(&["nonsense"], 1), None);
        let mut not_text = HeaderMap::new();
        let value = HeaderValue::from_bytes(b"\xe9, 198.51.100.7").unwrap();
        not_text.append(X_FORWARDED_FOR, value);
        assert!(forwarded_for(&not_text, 1).is_some());
        assert_eq!(
            forwarded(&["6.6.6.6, 198.51.100.7:4711"], 1).as_deref(),
            Some("198.51.100.7")
        );
        assert_eq!(
            forwarded(&["[2001:db8::1]:4711"], 1).as_deref(),
            Some("2001:db8::1")
        );
    }

    proptest! {
        #[test]
        fn entries_of_the_client_never_replace_the_proxy_s_entry(
            invented in proptest::collection::vec(crate::arbitrary::header_value(), 0..4),
            address in any::<std::net::Ipv6Addr>(),
            appended in any::<bool>(),
        ) {
            let mut headers = HeaderMap::new();
            for value in invented {
                headers.append(X_FORWARDED_FOR, value);
            }
            if appended && let Some(last) = headers.get_all(X_FORWARDED_FOR).iter().next_back().cloned() {
                // The proxy joins all values in one header.
                let bytes = [last.as_bytes(), format!(", {address}").as_bytes()].concat();
                headers.insert(X_FORWARDED_FOR, HeaderValue::from_bytes(&bytes).unwrap());
            } else {
                headers.append(X_FORWARDED_FOR, address.to_string().parse().unwrap());
            }
            prop_assert_eq!(forwarded_for(&headers, 1), Some(IpAddr::V6(address)));
            prop_assert_eq!(forwarded_for(&headers, 0), None);
            // Entries further left may be anything; reading them must not panic.
            for hops in [2, 3, usize::MAX] {
                let _ = forwarded_for(&headers, hops);
            }
        }
    }
}
