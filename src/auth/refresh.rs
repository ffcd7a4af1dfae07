//! Refreshes of credentials: on an interval, and for requests with unknown credentials, which wait for them.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};

/// The shortest time between two refreshes caused by unknown credentials.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// How long a request with an unknown token waits for a refresh.
const TIMEOUT: Duration = Duration::from_secs(8);

/// The schedule of a refresher.
#[derive(Debug)]
pub(crate) struct RefreshSchedule {
    request: Arc<Notify>,
    /// When the last completed refresh began.
    completed: watch::Sender<Instant>,
}

/// Requests a refresh. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RefreshRequest {
    request: Arc<Notify>,
    completed: watch::Receiver<Instant>,
}

impl Default for RefreshSchedule {
    fn default() -> Self {
        Self {
            request: Arc::default(),
            completed: watch::Sender::new(Instant::now()),
        }
    }
}

impl RefreshSchedule {
    /// Returns a handle that requests refreshes.
    #[must_use]
    pub(crate) fn handle(&self) -> RefreshRequest {
        RefreshRequest {
            request: Arc::clone(&self.request),
            completed: self.completed.subscribe(),
        }
    }

    /// Waits until a refresh is due: `interval` after `last`, or on request. Returns the reason.
    pub(crate) async fn due(&self, last: Instant, interval: Duration) -> &'static str {
        let requested = async {
            self.request.notified().await;
            sleep_until(last + MIN_INTERVAL).await;
        };
        tokio::select! {
            () = sleep_until(last + interval) => "interval",
            () = requested => "unknown token",
        }
    }

    /// Ends the wait of the requests that were made before `began`, when the completed refresh began. A refresh that
    /// failed is completed too: the requests are answered with the credentials last read.
    pub(crate) fn complete(&self, began: Instant) {
        self.completed.send_replace(began);
    }
}

impl RefreshRequest {
    /// Requests a refresh, without waiting for it.
    pub fn send(&self) {
        self.request.notify_one();
    }

    /// Waits for the end of a refresh that begins after the call, at most [`TIMEOUT`].
    pub async fn wait(&self) {
        let (requested, mut completed) = (Instant::now(), self.completed.clone());
        self.send();
        // After a time-out, or when the refresher has stopped, the credentials stay as they were.
        let _ = timeout(TIMEOUT, completed.wait_for(|began| *began >= requested)).await;
    }
}
