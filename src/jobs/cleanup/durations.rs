//! The durations of the plays whose sandboxes a run deletes, for the histories of their labs.

use std::{collections::HashMap, time::Duration};

use crate::{
    domain::{LabId, Sandbox, SandboxId},
    jobs::JobContext,
    telemetry::chain,
};

/// The durations that a run has collected, by lab.
#[derive(Debug, Default)]
pub(super) struct PlayDurations(HashMap<LabId, Vec<(SandboxId, Duration)>>);

impl PlayDurations {
    /// Adds the duration of the play that held `sandbox`, if its holder has released it and its lab is known.
    pub(super) fn add(&mut self, sandbox: &Sandbox) {
        if let Some((lab, held)) = sandbox.lab().zip(sandbox.play_duration()) {
            let of_lab = self.0.entry(lab.clone()).or_default();
            of_lab.push((sandbox.id().clone(), held));
        }
    }

    /// Adds the durations to the histories, one write for each lab. After a failed write the others are not tried: a history
    /// without them is only older.
    pub(super) async fn record(self, context: &JobContext) {
        let now = context.clock.now();
        for (lab, durations) in self.0 {
            if let Err(error) = context.store.add_durations(&lab, &durations, now).await {
                tracing::warn!(
                    lab = lab.as_str(),
                    cause = chain(&error),
                    "durations of allocations could not be recorded"
                );
                return;
            }
        }
    }
}
