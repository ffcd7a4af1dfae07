//! The unit that limits by address apply to.

use std::net::IpAddr;

/// Returns the network of a client: an IPv4 address, or the /64 network of an IPv6 address, of which one client usually
/// has a single one.
#[must_use]
pub(super) fn of_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn network_is_an_ipv4_address_or_a_64_network() {
        let network = |text: &str| of_client(text.parse().unwrap()).to_string();
        assert_eq!(network("198.51.100.7"), "198.51.100.7");
        assert_eq!(network("::ffff:198.51.100.7"), "198.51.100.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    proptest! {
        #[test]
        fn network_of_a_network_is_itself(address in any::<IpAddr>()) {
            let network = of_client(address);
            prop_assert_eq!(of_client(network), network);
        }
    }
}
