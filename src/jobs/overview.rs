//! The overview of the pool: counts, flow, jobs, circuit breakers, and warnings for operators.

mod warnings;

use std::time::Duration;

use futures_util::future::try_join_all;
use serde::Serialize;
use utoipa::ToSchema;

use self::warnings::{
    warning_of_pause, warning_of_policy, warnings_of_job, warnings_of_pool, warnings_of_pools,
    warnings_of_services,
};
use super::{JobContext, RefillMode, pool_report::PoolReport};
use crate::{
    broker::policy::PolicyStatus,
    clock::UnixSeconds,
    domain::{
        Flow, JobName, LabUsage, Pause, PoolSnapshot, PoolStatus, RunRecord, SAMPLE_SPAN, Sample,
    },
    store::StoreError,
};

const HOUR: Duration = Duration::from_hours(1);
/// A job that has not succeeded for this many of its intervals is overdue, as in the alert rules.
const OVERDUE_INTERVALS: u32 = 3;
/// A job is never overdue before this time.
const OVERDUE_AT_LEAST: Duration = Duration::from_mins(30);

/// The overview of the pool.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The current time.
    pub at: UnixSeconds,
    /// The last count of the sandboxes.
    pub counted: PoolSnapshot,
    /// The sandboxes that are available, or are being created or checked and will be available in time.
    pub expected: u64,
    /// The pools of the policy, as of the last count, ordered by name prefix.
    pub pools: Vec<PoolStatus>,
    /// Whether refill creates accounts.
    pub refill_mode: RefillMode,
    /// The threshold of the warning about a low pool.
    pub pool_low_below: u64,
    /// How long a caller keeps its sandbox after the end of the allocation.
    pub grace: Duration,
    /// Allocations and releases of the last hour, of all brokers.
    pub last_hour: Flow,
    /// How long the available sandboxes last at the rate of the last hour; `None` without allocations.
    pub lasts_for: Option<Duration>,
    /// The state of every job.
    pub jobs: Vec<JobOverview>,
    /// The name and phase of each circuit breaker, which all processes share.
    pub breakers: Vec<(&'static str, &'static str)>,
    /// The pauses in force.
    pub pauses: Vec<Pause>,
    /// The sandboxes that labs hold, as of the last count.
    pub labs: Vec<LabUsage>,
    /// The policy of this process.
    pub policy: PolicyStatus,
    /// Conditions that need attention.
    pub warnings: Vec<Warning>,
}

/// The state of a job.
#[derive(Clone, Debug)]
pub struct JobOverview {
    /// The job.
    pub job: JobName,
    /// The variable that turns it off; `None` if it is on.
    pub off_by: Option<&'static str>,
    /// The interval of its runs; `None` if only operators start it, or if it is off.
    pub interval: Option<Duration>,
    /// When its next run is scheduled; possibly in the past.
    pub next_due_at: Option<UnixSeconds>,
    /// Whether it has neither succeeded nor been stopped by a pause for three intervals, and for half an hour.
    pub is_overdue: bool,
    /// When it last succeeded.
    pub last_success_at: Option<UnixSeconds>,
    /// Its last run.
    pub last_run: Option<RunRecord>,
}

/// A condition that needs the attention of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Warning {
    /// The kind of the condition.
    pub code: WarningCode,
    /// A description for operators.
    pub message: String,
}

/// The kind of a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// No sandbox is available, of all or of a pool of the policy.
    PoolEmpty,
    /// Fewer sandboxes are available than `POOL_LOW_THRESHOLD`.
    PoolLow,
    /// A job has not succeeded for several intervals.
    JobOverdue,
    /// The last run of a job failed.
    JobFailed,
    /// The deletion of sandboxes failed.
    DeletionsFailed,
    /// Items of the pool are unreadable.
    ItemsUnreadable,
    /// The last cleanup ended before every deletion was attempted.
    DeletionsStopped,
    /// A circuit breaker is open.
    BreakerOpen,
    /// CSP or NIOSXaaS rejects the broker's credentials.
    CredentialsRejected,
    /// The last auto-expire left overdue allocations to a later run, because they are many.
    ExpiryDeferred,
    /// An operator has paused an activity.
    ActivityPaused,
    /// The policy cannot be read.
    PolicyUnreadable,
    /// A pool has been below its target for longer than a creation takes.
    PoolLate,
    /// CSP refuses to create accounts for a pool.
    RefillStopped,
    /// Checks have quarantined several sandboxes within an hour.
    QuarantineGrowing,
    /// The last run of a job that deletes nothing ended before its work was done.
    JobStopped,
}

impl Overview {
    /// Reads the overview that belongs to a count of the pool.
    pub(super) async fn read(report: PoolReport, context: &JobContext) -> Result<Self, StoreError> {
        let at = context.clock.now();
        let (samples, csp, jobs) = tokio::try_join!(
            context.store.samples(HOUR, at),
            context.store.csp_state(),
            try_join_all(JobName::ALL.map(|job| job_overview(context, job, at))),
        )?;
        let longest = context.jobs.breaker.longest_open();
        let services = csp.state.services();
        let breakers =
            services.map(|(name, service)| (name, service.breaker.phase(at, longest).as_str()));
        let rejected = services.map(|(name, service)| (name, service.rejected_since));
        let low_below = context.jobs.pool_low_below;
        let (pauses, policy) = (context.pauses.in_force(), context.policy.status());
        let last_hour = Flow {
            allocations: samples.iter().map(|sample| sample.flow.allocations).sum(),
            releases: samples.iter().map(|sample| sample.flow.releases).sum(),
        };
        let warnings = warnings_of_pool(&report, low_below)
            .into_iter()
            .chain(warnings_of_pools(&report))
            .chain(jobs.iter().flat_map(|job| warnings_of_job(job, at)))
            .chain(warnings_of_services(&breakers, &rejected))
            .chain(pauses.iter().map(warning_of_pause))
            .chain(warning_of_policy(&policy))
            .map(|(code, message)| Warning { code, message })
            .collect();
        Ok(Self {
            at,
            counted: report.snapshot,
            expected: report.expected,
            pools: report.pools,
            refill_mode: context.jobs.refill.mode,
            pool_low_below: low_below,
            grace: context.terms.grace,
            last_hour,
            lasts_for: lasts_for(report.snapshot.counts.available, &samples, at),
            warnings,
            jobs,
            breakers: breakers.into(),
            pauses,
            labs: context.labs(),
            policy,
        })
    }
}

async fn job_overview(
    context: &JobContext,
    job: JobName,
    now: UnixSeconds,
) -> Result<JobOverview, StoreError> {
    let state = context.store.job_state(job).await?;
    // By its id and not by its time, by which a run sorts last whose broker's clock was ahead.
    let last_run = match &state.last_run {
        Some(id) => context.store.run(id).await?,
        None => None,
    };
    let last_success_at = state.succeeded_at.and_then(|at| at.if_credible(now));
    let interval = context.jobs.interval(job);
    let started_at = last_run
        .as_ref()
        .and_then(|run| run.started_at.if_credible(now));
    let next_due_at =
        interval.map(|interval| started_at.map_or(now, |started_at| started_at + interval));
    let is_overdue = interval.is_some_and(|interval| {
        let longest = (interval * OVERDUE_INTERVALS).max(OVERDUE_AT_LEAST);
        let paused_at = state.paused_at.and_then(|at| at.if_credible(now));
        // A job that never succeeded may be new; its failed runs cause warnings of their own.
        last_success_at
            .max(paused_at)
            .is_some_and(|at| at + longest < now)
    });
    Ok(JobOverview {
        job,
        off_by: context.jobs.turned_off_by(job),
        interval,
        next_due_at,
        is_overdue,
        last_success_at,
        last_run,
    })
}

/// Returns how long the available sandboxes last at the rate of the samples up to `now`.
fn lasts_for(available: u64, samples: &[Sample], now: UnixSeconds) -> Option<Duration> {
    let allocations: u64 = samples.iter().map(|sample| sample.flow.allocations).sum();
    // Samples may cover less than the hour, in a new installation.
    let covered = samples.first().map(|first| now.0 - first.at.0)?;
    let covered = u64::try_from(covered)
        .unwrap_or(0)
        .max(SAMPLE_SPAN.as_secs());
    (available * covered)
        .checked_div(allocations)
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PoolCounts;

    fn sample(at: i64, allocations: u64) -> Sample {
        Sample {
            at: UnixSeconds(at),
            counts: PoolCounts::default(),
            flow: Flow {
                allocations,
                releases: 0,
            },
        }
    }

    #[test]
    fn remaining_time_is_computed_from_the_rate_of_the_last_hour() {
        let now = UnixSeconds(10_000);
        let hour = [sample(6_400, 60), sample(9_900, 30)];
        assert_eq!(lasts_for(180, &hour, now), Some(Duration::from_hours(2)));
        assert_eq!(lasts_for(0, &hour, now), Some(Duration::ZERO));
        assert_eq!(lasts_for(180, &[sample(6_400, 0)], now), None);
        assert_eq!(lasts_for(180, &[], now), None);
        // Ten in an interval of five minutes, of which one minute is over.
        assert_eq!(
            lasts_for(20, &[sample(9_940, 10)], now),
            Some(Duration::from_mins(10))
        );
    }
}
