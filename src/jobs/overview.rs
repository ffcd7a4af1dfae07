//! The overview of the pool: counts, flow, jobs, circuit breakers, and warnings for operators.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde::Serialize;
use utoipa::ToSchema;

use super::JobContext;
use crate::{
    broker::policy::PolicyStatus,
    clock::UnixSeconds,
    domain::{
        Flow, JobName, LabUsage, NO_POLICY, Pause, PoolSnapshot, RunRecord, RunState, SAMPLE_SPAN,
        Sample, UnreadableCount,
    },
    store::StoreError,
};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
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
    /// The interval of its runs; `None` if only operators start it.
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
    /// No sandbox is available.
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
}

impl Overview {
    /// Reads the overview that belongs to a count of the pool.
    pub(super) async fn read(
        counted: PoolSnapshot,
        context: &JobContext,
    ) -> Result<Self, StoreError> {
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
        Ok(Self {
            at,
            counted,
            pool_low_below: low_below,
            grace: context.terms.grace,
            last_hour,
            lasts_for: lasts_for(counted.counts.available, &samples, at),
            warnings: warnings(&counted, low_below, &jobs, at)
                .into_iter()
                .chain(warnings_of_services(&breakers, &rejected))
                .chain(pauses.iter().map(warning_of_pause))
                .chain(warning_of_policy(&policy))
                .map(|(code, message)| Warning { code, message })
                .collect(),
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

fn warnings(
    counted: &PoolSnapshot,
    low_below: u64,
    jobs: &[JobOverview],
    now: UnixSeconds,
) -> Vec<(WarningCode, String)> {
    let counts = &counted.counts;
    let available = counts.available;
    let pool = if available == 0 {
        Some((
            WarningCode::PoolEmpty,
            "No sandbox is available: allocations are rejected. Create accounts in CSP, then run sync."
                .to_owned(),
        ))
    } else {
        (available < low_below).then(|| {
            let are = if available == 1 { "is" } else { "are" };
            let sandboxes = sandboxes(available);
            let message = format!("{sandboxes} {are} available, fewer than {low_below}.");
            (WarningCode::PoolLow, message)
        })
    };
    let of_jobs = jobs.iter().flat_map(|job| warnings_of_job(job, now));
    let failed = (counts.deletion_failed > 0).then(|| {
        let message = format!(
            "{} could not be deleted from CSP. The list of sandboxes has the reasons; then retry the deletions.",
            sandboxes(counts.deletion_failed)
        );
        (WarningCode::DeletionsFailed, message)
    });
    let unreadable = counted.unreadable.filter(|unreadable| unreadable.count > 0);
    let unreadable = unreadable.map(|UnreadableCount { count, at }| {
        let (items, have) = if count == 1 { ("item", "has") } else { ("items", "have") };
        let message = format!(
            "{count} {items} of the pool could not be read at {at}, and {have} to be repaired in the pool's table: no \
             job changes them. The list of sandboxes (GET /v1/admin/sandboxes) shows them with their faults."
        );
        (WarningCode::ItemsUnreadable, message)
    });
    pool.into_iter()
        .chain(failed)
        .chain(unreadable)
        .chain(of_jobs)
        .collect()
}

fn warnings_of_services(
    breakers: &[(&'static str, &'static str)],
    rejected: &[(&'static str, Option<UnixSeconds>)],
) -> impl Iterator<Item = (WarningCode, String)> {
    let open = breakers.iter().filter(|(_, state)| *state == "open");
    let open = open.map(|(name, _)| {
        let message = format!("Calls to {name} are paused, because too many in a row failed.");
        (WarningCode::BreakerOpen, message)
    });
    let rejected = rejected.iter().filter_map(|(name, since)| {
        let message = format!(
            "{name} has rejected the broker's credentials since {}. Nothing is synchronised or deleted until they are \
             replaced.",
            (*since)?
        );
        Some((WarningCode::CredentialsRejected, message))
    });
    open.chain(rejected)
}

fn warning_of_pause(pause: &Pause) -> (WarningCode, String) {
    let mut message = pause.to_string();
    // An activity's name is in ASCII.
    if let Some(first) = message.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    (WarningCode::ActivityPaused, message)
}

fn warning_of_policy(policy: &PolicyStatus) -> Option<(WarningCode, String)> {
    let fault = policy.fault.as_ref()?;
    let in_force = match policy.number() {
        NO_POLICY => "the terms of the environment are".to_owned(),
        number => format!("version {number} is"),
    };
    let message = format!("The policy cannot be read, so {in_force} in force here: {fault}");
    Some((WarningCode::PolicyUnreadable, message))
}

/// Formats a number of sandboxes: `1 sandbox`, `2 sandboxes`.
fn sandboxes(count: u64) -> String {
    let plural = if count == 1 { "" } else { "es" };
    format!("{count} sandbox{plural}")
}

fn warnings_of_job(
    job: &JobOverview,
    now: UnixSeconds,
) -> impl Iterator<Item = (WarningCode, String)> {
    let name = job.job;
    // A job without an interval has no next run that would replace a failed one, so its failure expires.
    let is_recent = |run: &RunRecord| job.interval.is_some() || run.updated_at + DAY >= now;
    let overdue = job.is_overdue.then(|| {
        let message =
            format!("{name} has not succeeded for a long time. Its run records have the reasons.");
        (WarningCode::JobOverdue, message)
    });
    let failed = job
        .last_run
        .as_ref()
        .filter(|run| run.state == RunState::Failed && is_recent(run))
        .map(|run| {
            let error = run.error.as_deref().unwrap_or("unknown reason");
            (
                WarningCode::JobFailed,
                format!("The last run of {name} failed: {error}"),
            )
        });
    let stopped = job
        .last_run
        .as_ref()
        // A pause has a warning of its own while it is in force.
        .filter(|run| run.state != RunState::Paused)
        .and_then(|run| run.counts.get("stopped")?.as_str())
        .map(|reason| {
            let message = format!("The last {name} deferred deletions: {reason}");
            (WarningCode::DeletionsStopped, message)
        });
    let deferred = job
        .last_run
        .as_ref()
        .and_then(|run| run.counts.get("expiry_guard")?.as_str())
        .map(|reason| {
            let message = format!("The last {name} retired nothing: {reason}");
            (WarningCode::ExpiryDeferred, message)
        });
    let of_counts = stopped.into_iter().chain(deferred);
    overdue.into_iter().chain(failed).chain(of_counts)
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

    #[test]
    fn failure_is_a_warning_until_the_next_run_or_for_a_day() {
        let failed = |job, interval| JobOverview {
            job,
            interval,
            next_due_at: None,
            is_overdue: false,
            last_success_at: None,
            last_run: Some(RunRecord {
                started_by: None,
                id: "run".to_owned(),
                job,
                state: RunState::Failed,
                counts: serde_json::json!({}),
                error: None,
                started_at: UnixSeconds(0),
                updated_at: UnixSeconds(10),
                finished_at: Some(UnixSeconds(10)),
            }),
        };
        let manual = failed(JobName::BulkDelete, None);
        let is_warned = |job: &JobOverview, now| warnings_of_job(job, now).count() == 1;
        assert!(is_warned(&manual, UnixSeconds(10) + DAY));
        assert!(!is_warned(&manual, UnixSeconds(11) + DAY));
        let scheduled = failed(JobName::Sync, Some(Duration::from_mins(10)));
        assert!(is_warned(&scheduled, UnixSeconds(11) + DAY));
    }
}
