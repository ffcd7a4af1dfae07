//! Check: whether the accounts of sandboxes are usable.
//!
//! The user of the configuration signs in, switches to an account, and lists its groups: an account with a group is
//! usable. A new sandbox waits in `provisioning` until then. Nothing on the request path waits for a check, and an account
//! whose check fails delays no other.

mod answer;
mod batch;
mod queue;

use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use self::{
    batch::{Checks, LONGEST_REQUESTED_PAUSE},
    queue::Queue,
};
use super::{
    CheckConfig, JobError,
    run::{Job, Report, ReportStatus, Run, elapsed_ms},
};
use crate::{
    csp::CspError,
    domain::{CheckRules, JobName},
    shared::lock,
};

/// The job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckJob;

/// The report of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "status": "completed", "due": 12, "usable": 9, "not_yet": 2, "failed": 1, "quarantined": 0, "deferred": 0,
    "unreadable": 0, "duration_ms": 4180
}))]
pub(crate) struct CheckReport {
    /// The status of the run.
    pub status: ReportStatus,
    /// Accounts to check in this run.
    pub due: usize,
    /// Accounts found usable. Their new sandboxes are `available` now.
    pub usable: usize,
    /// Accounts not usable yet.
    pub not_yet: usize,
    /// Accounts found broken, but not quarantined yet.
    pub failed: usize,
    /// Sandboxes set aside.
    pub quarantined: usize,
    /// Accounts left to a later run, because CSP did not answer or the run ended before.
    pub deferred: usize,
    /// Unreadable items among those to check, which are left as they are.
    pub unreadable: usize,
    /// Why sandboxes were not set aside although their accounts were found broken, or not usable for long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recheck_guard: Option<String>,
    /// Why the run ended before all its work was done: CSP, or a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
}

impl Report for CheckReport {
    fn status(&self) -> ReportStatus {
        self.status
    }

    fn pause(&mut self, reason: String) {
        self.status = ReportStatus::Paused;
        self.stopped = Some(reason);
    }

    fn processed(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("usable", self.usable),
            ("not_yet", self.not_yet),
            ("failed", self.failed),
            ("quarantined", self.quarantined),
        ]
    }

    fn deferred(&self) -> usize {
        self.deferred
    }
}

impl CheckConfig {
    /// Returns the rules by which accounts are judged.
    const fn rules(&self) -> CheckRules {
        CheckRules {
            interval: self.interval,
            provision_timeout: self.provision_timeout,
            max_failures: self.max_failures,
            recheck_after: self.recheck_after,
        }
    }
}

impl Job for CheckJob {
    type Report = CheckReport;

    fn name(&self) -> JobName {
        JobName::Check
    }

    async fn run_once(&self, run: &Run<CheckReport>) -> Result<CheckReport, JobError> {
        let began = Instant::now();
        let queue = Queue::read(run.context()).await?;
        let report = CheckReport {
            due: queue.sandboxes.len(),
            unreadable: queue.unreadable,
            ..CheckReport::default()
        };
        run.progress(&report);
        let mut checks = Checks::new(run, report, queue.available);
        let mut queue = queue.sandboxes;
        let ended = check_all(run, &mut checks, &mut queue, began).await;
        let mut report = checks.report;
        report.deferred += queue.len();
        report.duration_ms = elapsed_ms(began);
        run.progress(&report);
        ended?;
        Ok(report)
    }
}

/// Checks the accounts of the queue, batch by batch. Those that it does not come to stay in the queue.
async fn check_all(
    run: &Run<CheckReport>,
    checks: &mut Checks<'_>,
    queue: &mut queue::Sandboxes,
    began: Instant,
) -> Result<(), JobError> {
    let context = run.context();
    let config = &context.jobs.check;
    // New sandboxes do not wait until a whole pool has been rechecked: they are at the front of the next run's queue.
    let is_late = |queue: &queue::Sandboxes| {
        let is_recheck = queue.front().is_some_and(queue::is_recheck);
        is_recheck && began.elapsed() > config.interval
    };
    let mut is_first = true;
    while !queue.is_empty() && (is_first || !is_late(queue)) {
        is_first = false;
        if run.is_stopped() {
            checks.report.status = ReportStatus::Interrupted;
            return Ok(());
        }
        let pace = match context.admit_batch(config.pace) {
            Ok(pace) => pace,
            Err(until) => {
                checks.report.stopped = Some(format!(
                    "CSP is unavailable; checks resume after {}",
                    until.iso()
                ));
                break;
            }
        };
        if let Err(error) = checks.session.sign_in().await {
            if matches!(error, CspError::Unauthorized { .. }) {
                return Err(error.into());
            }
            context.csp_breaker.failed(error.retry_after());
            lock(&context.pace).slow_down();
            checks.report.stopped = Some(format!("the NIOSXaaS user cannot sign in: {error}"));
            break;
        }
        let requested_pause = checks.check_batch(queue, pace).await?;
        if requested_pause.is_some_and(|pause| pause > LONGEST_REQUESTED_PAUSE) {
            checks.report.stopped =
                Some("CSP requests a longer pause than a run waits for".to_owned());
            break;
        }
        // An open breaker ends the run in the next iteration, without a pause.
        if !queue.is_empty() && !context.csp_breaker.is_open() {
            let delay = lock(&context.pace).of(config.pace).batch_delay;
            run.pause(delay.max(requested_pause.unwrap_or_default()))
                .await;
        }
    }
    checks.report.status = ReportStatus::Completed;
    Ok(())
}
