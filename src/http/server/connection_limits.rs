//! How many connections may be open, in all and from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Semaphore;

/// File descriptors that clients leave to the database, CSP and the log.
const RESERVED_FILES: u64 = 512;
/// Of the connections that may be open, one address may have one in so many. Behind trusted proxies all have theirs.
const SHARE: usize = 2;

/// Raises the number of files that this process may have open to what it is allowed: each connection is one.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the number of open files stays as it is");
    }
}

/// More connections than this wait to be accepted, so that those to the database find a file descriptor.
fn connection_limit() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let for_clients = files.saturating_sub(RESERVED_FILES).max(files / 2);
    usize::try_from(for_clients)
        .unwrap_or(usize::MAX)
        .min(Semaphore::MAX_PERMITS)
}

/// How many connections may be open.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In all.
    pub(super) connections: usize,
    /// From one address.
    pub(super) per_address: usize,
}

impl ConnectionLimits {
    /// As many as the machine allows. Trusted proxies may have all of them.
    #[must_use]
    pub fn of_machine(is_behind_proxies: bool) -> Self {
        let connections = connection_limit();
        Self {
            connections,
            per_address: if is_behind_proxies {
                connections
            } else {
                connections.div_ceil(SHARE)
            },
        }
    }

    /// So few that they fit into what clients leave.
    #[must_use]
    pub const fn small() -> Self {
        Self {
            connections: 64,
            per_address: 64,
        }
    }
}

/// How many connections each address has. As large as there are connections.
#[derive(Clone, Debug)]
pub(super) struct ConnectionLimiter {
    limit: usize,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One of them, while it lives.
pub(super) struct ConnectionPermit {
    address: IpAddr,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl ConnectionLimiter {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            counts: Arc::default(),
        }
    }

    /// `None` if the address has its share.
    pub(super) fn acquire(&self, address: IpAddr) -> Option<ConnectionPermit> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(ConnectionPermit {
            address,
            counts: Arc::clone(&self.counts),
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
