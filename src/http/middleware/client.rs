//! From which address a request comes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::{extract::Request, http::HeaderMap};

use crate::http::{headers::X_FORWARDED_FOR, server::PeerAddress};

/// The address of the client: a request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// What one client can hardly have several of: an IPv4 address, or the /64 network of an IPv6 address.
    #[must_use]
    pub(crate) fn network(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
            address @ IpAddr::V4(_) => address,
        }
    }
}

/// Finds out from which address a request comes, through as many proxies as are trusted, and notes it in the request.
pub(crate) fn identify(request: &mut Request, trusted_hops: usize) -> ClientAddress {
    let peer = request
        .extensions()
        .get::<PeerAddress>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    let address = ClientAddress(forwarded_for(request.headers(), trusted_hops).unwrap_or(peer));
    request.extensions_mut().insert(address);
    address
}

/// What the outermost trusted proxy saw. Each appends the address it sees, so whatever stands further left is the
/// client's own invention.
fn forwarded_for(headers: &HeaderMap, trusted_hops: usize) -> Option<IpAddr> {
    let seen = headers.get_all(X_FORWARDED_FOR).iter().rev();
    // By bytes: what a client puts on the left need not be text, and must not spoil the rest.
    let mut from_the_right = seen.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    let entry = from_the_right.nth(trusted_hops.checked_sub(1)?)?;
    read_address(std::str::from_utf8(entry).ok()?.trim())
}

/// Some proxies add the port.
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

    fn seen(values: &[&'static str], hops: usize) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(value));
        }
        forwarded_for(&headers, hops).map(|address| address.to_string())
    }

    #[test]
    fn only_what_trusted_proxies_added_counts() {
        let values = ["6.6.6.6, 10.0.0.1", "198.51.100.7"];
        assert_eq!(seen(&values, 0), None);
        assert_eq!(seen(&values, 1).as_deref(), Some("198.51.100.7"));
        assert_eq!(seen(&values, 2).as_deref(), Some("10.0.0.1"));
        assert_eq!(seen(&values, 4), None);
        assert_eq!(seen(&["nonsense"], 1), None);
        let mut spoilt = HeaderMap::new();
        let value = HeaderValue::from_bytes(b"\xe9, 198.51.100.7").unwrap();
        spoilt.append(X_FORWARDED_FOR, value);
        assert!(forwarded_for(&spoilt, 1).is_some());
        assert_eq!(
            seen(&["6.6.6.6, 198.51.100.7:4711"], 1).as_deref(),
            Some("198.51.100.7")
        );
        assert_eq!(
            seen(&["[2001:db8::1]:4711"], 1).as_deref(),
            Some("2001:db8::1")
        );
    }

    #[test]
    fn a_network_is_what_one_client_has() {
        let network = |text: &str| ClientAddress(text.parse().unwrap()).network().to_string();
        assert_eq!(network("198.51.100.7"), "198.51.100.7");
        assert_eq!(network("::ffff:198.51.100.7"), "198.51.100.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    proptest! {
        #[test]
        fn whatever_a_client_invents_the_proxy_s_word_counts(
            invented in proptest::collection::vec(crate::arbitrary::header_value(), 0..4),
            address in any::<std::net::Ipv6Addr>(),
            appended in any::<bool>(),
        ) {
            let mut headers = HeaderMap::new();
            for value in invented {
                headers.append(X_FORWARDED_FOR, value);
            }
            if appended && let Some(last) = headers.get_all(X_FORWARDED_FOR).iter().next_back().cloned() {
                // The proxy writes one header of all of them.
                let bytes = [last.as_bytes(), format!(", {address}").as_bytes()].concat();
                headers.insert(X_FORWARDED_FOR, HeaderValue::from_bytes(&bytes).unwrap());
            } else {
                headers.append(X_FORWARDED_FOR, address.to_string().parse().unwrap());
            }
            prop_assert_eq!(forwarded_for(&headers, 1), Some(IpAddr::V6(address)));
            prop_assert_eq!(forwarded_for(&headers, 0), None);
            // Whatever is further left is an address or nothing.
            for hops in [2, 3, usize::MAX] {
                let _ = forwarded_for(&headers, hops);
            }
        }

        #[test]
        fn a_network_is_its_own_network(address in any::<IpAddr>()) {
            let network = ClientAddress(address).network();
            prop_assert_eq!(ClientAddress(network).network(), network);
        }
    }
}
