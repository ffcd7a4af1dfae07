//! Limits of open connections, in total and from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Semaphore;

use crate::{http::network, shared::lock};

/// File descriptors reserved for the database, CSP and the log.
const RESERVED_FILES: u64 = 512;
/// One address may have this fraction of the connections: 1 / `ADDRESS_SHARE`. Not applied behind trusted proxies,
/// from which all connections come.
const ADDRESS_SHARE: usize = 2;

/// Raises the soft limit of open files to the hard limit: each connection needs a file descriptor.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files could not be raised");
    }
}

/// The largest number of open connections; more wait to be accepted. It leaves file descriptors for the database.
fn connection_limit() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let for_clients = files.saturating_sub(RESERVED_FILES).max(files / 2);
    usize::try_from(for_clients)
        .unwrap_or(usize::MAX)
        .min(Semaphore::MAX_PERMITS)
}

/// The largest numbers of open connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In total.
    pub(super) connections: usize,
    /// From one address; of IPv6, from one /64 network.
    pub(super) per_address: usize,
}

impl ConnectionLimits {
    /// Returns the limits that the machine allows. Behind trusted proxies, one address may have all connections.
    #[must_use]
    pub fn of_machine(is_behind_proxies: bool) -> Self {
        let connections = connection_limit();
        Self {
            connections,
            per_address: if is_behind_proxies {
                connections
            } else {
                connections.div_ceil(ADDRESS_SHARE)
            },
        }
    }

    /// Returns limits that need no more than the reserved file descriptors.
    #[must_use]
    pub const fn small() -> Self {
        Self {
            connections: 64,
            per_address: 64,
        }
    }
}

/// Counts the connections of each client network. Its size is bounded by the number of connections.
#[derive(Clone, Debug)]
pub(super) struct ConnectionLimiter {
    limit: usize,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A permit for one connection of a network, which no longer counts when the permit is dropped.
pub(super) struct ConnectionPermit {
    network: IpAddr,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl ConnectionLimiter {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            counts: Arc::default(),
        }
    }

    /// Counts a connection from the address. Returns `None` if its network has reached the limit.
    pub(super) fn acquire(&self, address: IpAddr) -> Option<ConnectionPermit> {
        let network = network::of_client(address);
        let mut counts = lock(&self.counts);
        let count = counts.entry(network).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(ConnectionPermit {
            network,
            counts: Arc::clone(&self.counts),
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_the_connections_that_one_address_may_have() {
        let limiter = ConnectionLimiter::new(2);
        let acquire = |text: &str| limiter.acquire(text.parse().unwrap());
        let open = [acquire("2001:db8::1"), acquire("2001:db8::2")];
        assert!(open.iter().all(Option::is_some));
        assert!(acquire("2001:db8::3").is_none(), "the same /64 network");
        assert!(acquire("2001:db8:0:1::1").is_some());
        drop(open);
        assert!(acquire("2001:db8::3").is_some());
        // The same client over IPv4 and over an IPv6 socket.
        let _open = [acquire("198.51.100.7"), acquire("::ffff:198.51.100.7")];
        assert!(acquire("198.51.100.7").is_none());
    }
}
