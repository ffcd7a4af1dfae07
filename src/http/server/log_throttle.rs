//! A throttled log: one event in an interval, however often its cause occurs.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two events of one throttle.
const INTERVAL: Duration = Duration::from_secs(10);

/// Admits one log event in each [`INTERVAL`].
#[derive(Debug, Default)]
pub(super) struct LogThrottle(Option<Instant>);

impl LogThrottle {
    /// Calls `event`, unless the last event was less than [`INTERVAL`] ago.
    pub(super) fn log(&mut self, event: impl FnOnce()) {
        if self.0.is_none_or(|last| last.elapsed() >= INTERVAL) {
            self.0 = Some(Instant::now());
            event();
        }
    }
}
