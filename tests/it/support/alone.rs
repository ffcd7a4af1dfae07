//! Mutual exclusion of the tests that send many concurrent requests.

use tokio::sync::{Mutex, MutexGuard};

/// Waits until no other test holds the lock. Two bursts at once would be twice the load that either test is about, on an
/// engine that shares the machine's cores with them.
pub async fn run_alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::const_new(());
    LOCK.lock().await
}
