//! The pool at a glance: counts, flow, jobs, breakers, and what an operator should look at.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde::Serialize;
use utoipa::ToSchema;

use super::{JobContext, pool_monitor::Counted};
use crate::{
    clock::UnixSeconds,
    domain::{Flow, JobName, PoolCounts, RunRecord, RunState, SAMPLE_SPAN, Sample},
    store::StoreError,
};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// A job that has not succeeded for so many of its intervals is overdue, as in the alerts.
const OVERDUE_INTERVALS: u32 = 3;
const OVERDUE_AT_LEAST: Duration = Duration::from_mins(30);

/// The pool at a glance.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Now.
    pub at: UnixSeconds,
    /// The last count of the sandboxes.
    pub counted: Counted,
    /// The pool is low with fewer available sandboxes than this.
    pub pool_low_below: u64,
    /// Allocations and releases of the last hour, of all brokers.
    pub last_hour: Flow,
    /// How long the available sandboxes last at the rate of the last hour; `None` without allocations.
    pub lasts_for: Option<Duration>,
    /// Every job.
    pub jobs: Vec<JobOverview>,
    /// The circuit breakers of this broker: name and state.
    pub breakers: Vec<(&'static str, &'static str)>,
    /// What an operator should look at.
    pub warnings: Vec<Warning>,
}

/// The state of a job.
#[derive(Clone, Debug)]
pub struct JobOverview {
    /// The job.
    pub job: JobName,
    /// How often it should run; `None` if only operators start it.
    pub interval: Option<Duration>,
    /// When its next run is due; possibly in the past.
    pub next_due_at: Option<UnixSeconds>,
    /// Whether it has not succeeded for three intervals, and for half an hour.
    pub is_overdue: bool,
    /// When it last succeeded.
    pub last_success_at: Option<UnixSeconds>,
    /// Its last run.
    pub last_run: Option<RunRecord>,
}

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Warning {
    /// What it is about.
    pub code: WarningCode,
    /// What it is, in a sentence.
    pub message: String,
}

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// No sandbox is available.
    PoolEmpty,
    /// Few are.
    PoolLow,
    /// A job has not succeeded for long.
    JobOverdue,
    /// The last run of a job failed.
    JobFailed,
    /// CSP refused to delete sandboxes.
    DeletionsFailed,
    /// The last cleanup ended before everything was tried.
    DeletionsStopped,
    /// A circuit breaker is open.
    BreakerOpen,
}

impl Overview {
    /// Puts the overview together around the last count of the pool.
    pub(super) async fn around(counted: Counted, context: &JobContext) -> Result<Self, StoreError> {
        let at = context.clock.now();
        let (samples, jobs) = tokio::try_join!(
            context.store.samples_since(at - HOUR),
            try_join_all(JobName::ALL.map(|job| job_overview(context, job, at))),
        )?;
        let breakers = context
            .breakers()
            .map(|(name, breaker)| (name, breaker.state()));
        let low_below = context.jobs.pool_low_below;
        let last_hour = Flow {
            allocations: samples.iter().map(|sample| sample.flow.allocations).sum(),
            releases: samples.iter().map(|sample| sample.flow.releases).sum(),
        };
        Ok(Self {
            at,
            counted,
            pool_low_below: low_below,
            last_hour,
            lasts_for: lasts_for(counted.counts.available, &samples, at),
            warnings: warnings(&counted.counts, low_below, &jobs, &breakers, at),
            jobs,
            breakers: breakers.into(),
        })
    }
}

async fn job_overview(
    context: &JobContext,
    job: JobName,
    now: UnixSeconds,
) -> Result<JobOverview, StoreError> {
    let store = &context.store;
    let (last_success_at, runs) =
        tokio::try_join!(store.last_success(job), store.recent_runs(job, 1))?;
    let last_run = runs.into_iter().next();
    let interval = context.jobs.interval(job);
    let next_due_at = interval.map(|interval| {
        last_run
            .as_ref()
            .map_or(now, |run| run.started_at + interval)
    });
    let is_overdue = interval.is_some_and(|interval| {
        let longest = (interval * OVERDUE_INTERVALS).max(OVERDUE_AT_LEAST);
        // One that never succeeded may be new; its runs tell.
        last_success_at.is_some_and(|at| at + longest < now)
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

/// How long the available sandboxes last, at the rate of the samples up to `now`.
fn lasts_for(available: u64, samples: &[Sample], now: UnixSeconds) -> Option<Duration> {
    let allocations: u64 = samples.iter().map(|sample| sample.flow.allocations).sum();
    // A broker that has just begun to take samples has not seen an hour.
    let seen = samples.first().map(|first| now.0 - first.at.0)?;
    let seen = u64::try_from(seen).unwrap_or(0).max(SAMPLE_SPAN.as_secs());
    (available * seen)
        .checked_div(allocations)
        .map(Duration::from_secs)
}

fn warnings(
    counts: &PoolCounts,
    low_below: u64,
    jobs: &[JobOverview],
    breakers: &[(&'static str, &'static str)],
    now: UnixSeconds,
) -> Vec<Warning> {
    let available = counts.available;
    let pool = if available == 0 {
        Some((
            WarningCode::PoolEmpty,
            "No sandbox is available: students are refused. Create accounts in CSP, then sync."
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
            "{} could not be deleted from CSP. The view of sandboxes has the reasons; then retry.",
            sandboxes(counts.deletion_failed)
        );
        (WarningCode::DeletionsFailed, message)
    });
    let open = breakers.iter().filter(|(_, state)| *state == "open");
    let open = open.map(|(name, _)| {
        let message = format!("Calls to {name} are paused, because too many in a row failed.");
        (WarningCode::BreakerOpen, message)
    });
    pool.into_iter()
        .chain(failed)
        .chain(of_jobs)
        .chain(open)
        .map(|(code, message)| Warning { code, message })
        .collect()
}

/// `1 sandbox`, `2 sandboxes`
fn sandboxes(count: u64) -> String {
    let plural = if count == 1 { "" } else { "es" };
    format!("{count} sandbox{plural}")
}

fn warnings_of_job(
    job: &JobOverview,
    now: UnixSeconds,
) -> impl Iterator<Item = (WarningCode, String)> {
    let name = job.job;
    // No next run takes the place of one that people start.
    let is_news = |run: &RunRecord| job.interval.is_some() || run.updated_at + DAY >= now;
    let overdue = job.is_overdue.then(|| {
        let message = format!("{name} has not succeeded for a long time. Its runs say why.");
        (WarningCode::JobOverdue, message)
    });
    let failed = job
        .last_run
        .as_ref()
        .filter(|run| run.state == RunState::Failed && is_news(run))
        .map(|run| {
            let error = run.error.as_deref().unwrap_or("no reason is known");
            (
                WarningCode::JobFailed,
                format!("The last run of {name} failed: {error}"),
            )
        });
    let stopped = job
        .last_run
        .as_ref()
        .and_then(|run| run.counts.get("stopped")?.as_str())
        .map(|why| {
            let message = format!("The last {name} left deletions for later: {why}");
            (WarningCode::DeletionsStopped, message)
        });
    overdue.into_iter().chain(failed).chain(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_pool_lasts_as_long_as_it_does_at_the_rate_of_the_last_hour() {
        let now = UnixSeconds(10_000);
        let hour = [sample(6_400, 60), sample(9_900, 30)];
        assert_eq!(lasts_for(180, &hour, now), Some(Duration::from_hours(2)));
        assert_eq!(lasts_for(0, &hour, now), Some(Duration::ZERO));
        assert_eq!(lasts_for(180, &[sample(6_400, 0)], now), None);
        assert_eq!(lasts_for(180, &[], now), None);
        // Ten a five minutes, seen for one minute only.
        assert_eq!(
            lasts_for(20, &[sample(9_940, 10)], now),
            Some(Duration::from_mins(10))
        );
    }

    #[test]
    fn a_failure_is_news_until_the_next_run_or_for_a_day() {
        let failed = |job, interval| JobOverview {
            job,
            interval,
            next_due_at: None,
            is_overdue: false,
            last_success_at: None,
            last_run: Some(RunRecord {
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
        let by_hand = failed(JobName::BulkDelete, None);
        let is_told = |job: &JobOverview, now| warnings_of_job(job, now).count() == 1;
        assert!(is_told(&by_hand, UnixSeconds(10) + DAY));
        assert!(!is_told(&by_hand, UnixSeconds(11) + DAY));
        let scheduled = failed(JobName::Sync, Some(Duration::from_mins(10)));
        assert!(is_told(&scheduled, UnixSeconds(11) + DAY));
    }
}
