//! The uses of a named token, which are recorded at most once an hour.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::UnixSeconds;

/// The shortest time between two records of the use of one token by one broker, in seconds.
const USE_INTERVAL: u64 = 3600;

/// The uses of a token by this broker, in Unix seconds; 0 for none.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// The last use that is not recorded yet.
    pending: AtomicI64,
    /// The last use that a broker recorded, or that this one tried to record.
    recorded: AtomicI64,
}

impl Uses {
    /// Notes a use. Within [`USE_INTERVAL`] after one that was recorded it only reads, so that requests do not contend.
    pub(super) fn note(&self, now: UnixSeconds) {
        // A difference in either direction: the clock of the broker that recorded it may have been ahead.
        if self.recorded.load(Ordering::Relaxed).abs_diff(now.0) >= USE_INTERVAL {
            self.pending.store(now.0, Ordering::Relaxed);
        }
    }

    /// Notes the last use that a broker recorded.
    pub(super) fn note_recorded(&self, at: UnixSeconds) {
        self.recorded.fetch_max(at.0, Ordering::Relaxed);
    }

    /// Returns whether there is a use to record.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed) != 0
    }

    /// Returns the use to record, if any. It counts as recorded from now on, also if that fails.
    pub(super) fn take(&self) -> Option<UnixSeconds> {
        let at = self.pending.swap(0, Ordering::Relaxed);
        (at != 0).then(|| {
            self.recorded.store(at, Ordering::Relaxed);
            UnixSeconds(at)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn use_is_recorded_once_an_hour() {
        let uses = Uses::default();
        let start = UnixSeconds(1_795_000_000);
        assert_eq!(uses.take(), None);
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        uses.note(start);
        uses.note(after(1));
        assert_eq!(uses.take(), Some(after(1)));
        for seconds in [2, 1800, 3600] {
            uses.note(after(seconds));
            assert_eq!(uses.take(), None, "{seconds}");
        }
        uses.note(after(3601));
        assert_eq!(uses.take(), Some(after(3601)));
        // The clock was ahead and is corrected.
        uses.note(start);
        assert_eq!(uses.take(), Some(start));
    }
}
