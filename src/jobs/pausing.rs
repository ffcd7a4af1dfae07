//! Runs of jobs under pauses. Jobs do not depend on pauses: a pause interrupts a run as a shutdown does, and the report
//! then states the pause.

use std::pin::pin;

use super::{
    JobError,
    run::{Job, Report, Run},
};
use crate::{domain::Pause, telemetry::chain};

/// Runs `job` unless its activity is paused, and stops it after the current item once that is paused.
///
/// The pauses are read from the table first. If that fails, the last known ones count, as in all of this process.
pub(super) async fn run_unless_paused<J: Job>(
    job: &J,
    run: &Run<J::Report>,
) -> Result<J::Report, JobError> {
    let (pauses, activity) = (&run.context().pauses, job.name().activity());
    if let Err(error) = pauses.refresh().await {
        tracing::warn!(
            action = job.name().as_str(),
            cause = chain(&error),
            "pauses could not be read at the start of a run"
        );
    }
    if let Some(pause) = pauses.of(activity) {
        return Ok(stopped_by(J::Report::default(), &pause, job));
    }
    let mut outcome = pin!(job.run_once(run));
    let pause = tokio::select! {
        outcome = &mut outcome => return outcome,
        pause = pauses.paused(activity) => pause,
    };
    run.stop.cancel();
    let report = outcome.await?;
    // A run that was at its last item has done all its work.
    Ok(if report.is_interrupted() {
        stopped_by(report, &pause, job)
    } else {
        report
    })
}

fn stopped_by<J: Job>(mut report: J::Report, pause: &Pause, job: &J) -> J::Report {
    let reason = pause.to_string();
    tracing::info!(
        action = job.name().as_str(),
        reason,
        "run stopped by a pause"
    );
    report.pause(reason);
    report
}
