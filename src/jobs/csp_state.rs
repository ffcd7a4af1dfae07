//! The state of CSP that jobs share through the companion table: circuit breakers, pace, and whether credentials are
//! accepted.
//!
//! Runs may be processes of their own, so a run reads the state when it begins, and writes it when it has changed: with
//! its heartbeats and at its end. Writes are conditional on the version that was read; where two processes have changed
//! the state, their changes are merged. If the table cannot be read or written, the run goes on with the state of its
//! own process (`docs/jobs.md`).

use tokio::sync::Mutex;

use super::JobContext;
use crate::{
    clock::UnixSeconds,
    domain::{CspState, ServiceState},
    shared::lock,
    store::{StoreError, VersionedCspState},
    telemetry::{chain, metrics::Metrics},
};

/// Attempts to write the state while other processes write it.
const ATTEMPTS: u32 = 3;
/// The calls that show whether CSP accepts the API token, and the user. Other calls of the user are made in a session,
/// which may have expired.
const CSP_CALLS: &[&str] = &["list", "find", "create", "delete"];
const NIOSXAAS_CALLS: &[&str] = &["niosxaas_sign_in", "check_sign_in", "check_user"];

/// The state of CSP that this process last read or wrote.
#[derive(Debug, Default)]
pub(crate) struct SharedCspState(Mutex<LastKnown>);

#[derive(Debug, Default)]
struct LastKnown {
    stored: VersionedCspState,
    csp: CredentialState,
    niosxaas: CredentialState,
}

/// Whether a service accepts the credentials, as far as this process has observed.
#[derive(Clone, Copy, Debug, Default)]
struct CredentialState {
    rejected_since: Option<UnixSeconds>,
    /// The calls counted so far: those with an answer, and those with rejected credentials.
    accepted: u64,
    rejected: u64,
}

impl JobContext {
    /// Reads the state that other processes have written. If that fails, this process goes on with its own.
    pub(super) async fn load_csp_state(&self) {
        let mut known = self.csp_state.0.lock().await;
        if let Err(error) = self.read_and_merge(&mut known).await {
            tracing::warn!(cause = chain(&error), "state of CSP could not be read");
        }
    }

    /// Writes the state for other processes, if it has changed. If that fails, the next call writes it.
    pub(super) async fn save_csp_state(&self) {
        let mut known = self.csp_state.0.lock().await;
        for _ in 0..ATTEMPTS {
            let mine = self.current_csp_state(&mut known);
            if mine == known.stored.state {
                return;
            }
            let version = known.stored.version;
            let written = match self.store.put_csp_state(mine, version).await {
                Ok(true) => {
                    known.stored = VersionedCspState {
                        version: version + 1,
                        state: mine,
                    };
                    return;
                }
                Ok(false) => self.read_and_merge(&mut known).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                tracing::warn!(cause = chain(&error), "state of CSP could not be written");
                return;
            }
        }
        tracing::warn!(
            attempts = ATTEMPTS,
            "state of CSP not written: other processes write it"
        );
    }

    async fn read_and_merge(&self, known: &mut LastKnown) -> Result<(), StoreError> {
        let theirs = self.store.csp_state().await?;
        let mine = self.current_csp_state(known);
        let merged = mine.merged(known.stored.state, theirs.state);
        if merged != mine {
            self.csp_breaker.set_state(merged.csp.breaker);
            self.niosxaas_breaker.set_state(merged.niosxaas.breaker);
            lock(&self.pace).set_share(merged.pace);
            known.csp.rejected_since = merged.csp.rejected_since;
            known.niosxaas.rejected_since = merged.niosxaas.rejected_since;
        }
        known.stored = theirs;
        Ok(())
    }

    fn current_csp_state(&self, known: &mut LastKnown) -> CspState {
        let (metrics, now) = (&self.metrics, self.clock.now());
        CspState {
            csp: ServiceState {
                breaker: self.csp_breaker.state(),
                rejected_since: known.csp.update("csp", CSP_CALLS, metrics, now),
            },
            niosxaas: ServiceState {
                breaker: self.niosxaas_breaker.state(),
                rejected_since: known
                    .niosxaas
                    .update("niosxaas", NIOSXAAS_CALLS, metrics, now),
            },
            pace: lock(&self.pace).share(),
        }
    }
}

impl CredentialState {
    /// Takes the calls since the last update into account. Returns since when the credentials are rejected.
    fn update(
        &mut self,
        service: &'static str,
        operations: &[&str],
        metrics: &Metrics,
        now: UnixSeconds,
    ) -> Option<UnixSeconds> {
        let calls = |outcome: &str| -> u64 {
            let counters = operations
                .iter()
                .map(|operation| metrics.csp_calls.with_label_values(&[*operation, outcome]));
            counters.map(|counter| counter.get()).sum()
        };
        let (accepted, rejected) = (calls("success"), calls("unauthorized"));
        if rejected > self.rejected {
            self.rejected_since.get_or_insert(now);
            // One event for each run that observes it: an alarm counts them.
            tracing::error!(service, "credentials rejected");
        } else if accepted > self.accepted {
            self.rejected_since = None;
        }
        (self.accepted, self.rejected) = (accepted, rejected);
        self.rejected_since
    }
}
