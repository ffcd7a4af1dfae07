//! Signals that end the process.

use std::{io, process};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// A listener for SIGTERM and SIGINT. It is created before the broker starts, so that neither is missed meanwhile. The
/// first signal asks for an orderly end, a second one ends the process at once. SIGHUP does not end the process.
#[derive(Debug)]
pub(crate) struct Signals(watch::Receiver<Option<&'static str>>);

impl Signals {
    /// Installs the signal handlers.
    ///
    /// # Errors
    /// The operating system refuses a handler.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // The handler stays installed for the life of the process.
        drop(signal(SignalKind::hangup())?);
        let (first, signals) = watch::channel(None);
        let task = async move {
            let (name, _) = next(&mut terminate, &mut interrupt).await;
            first.send_replace(Some(name));
            let (name, number) = next(&mut terminate, &mut interrupt).await;
            tracing::warn!(signal = name, "ended at once by a second signal");
            // The exit code of a shell for a process that a signal ended.
            process::exit(128 + number.as_raw_value());
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "shutdown must not wait for a second signal"
        )]
        tokio::spawn(task);
        Ok(Self(signals))
    }

    /// Waits for the first signal and returns its name. Returns at once if it was received already.
    pub(crate) async fn first(&mut self) -> &'static str {
        match self.0.wait_for(Option::is_some).await {
            Ok(name) => name.unwrap_or_default(),
            // The task of the listener ends only with the runtime.
            Err(_) => std::future::pending().await,
        }
    }
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, SignalKind) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", SignalKind::terminate()),
        _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
    }
}
