//! The pool at a glance, and its past: what the dashboard shows first.

use std::time::Duration;

use axum::{Json, extract::State};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    admin::StatsBody,
    error::{ApiError, ErrorCode, error_set},
    extract::{Admin, ApiQuery},
};
use crate::{
    app::AppState,
    clock::UnixSeconds,
    jobs::JobContext,
    store::{
        Counts, JobName, RunRecord, RunState, SAMPLE_SPAN, SAMPLES_KEPT_FOR, Sample, StoreError,
    },
};

error_set! {
    /// What looking at the pool may fail with.
    OverviewErrors: StoreUnavailable
}
error_set! {
    /// What looking at its past may fail with.
    SamplesErrors: InvalidParameter, StoreUnavailable
}

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// A job that has not succeeded for so many of its intervals is overdue, as in the alerts.
const OVERDUE_INTERVALS: u32 = 3;
const OVERDUE_AT_LEAST: Duration = Duration::from_mins(30);
const DEFAULT_HOURS: u64 = 24;
const MAX_HOURS: u64 = SAMPLES_KEPT_FOR.as_secs() / 3600;

/// The pool at a glance. Times are Unix seconds.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "at": 1_774_000_000, "counted_at": 1_773_999_994, "pool_low_below": 20,
    "counts": { "total": 200, "available": 12, "allocated": 186, "pending_deletion": 2, "stale": 0, "deletion_failed": 0 },
    "allocations_last_hour": 90, "releases_last_hour": 4, "lasts_for_seconds": 480,
    "jobs": [{
        "job": "bulk-delete", "interval_seconds": null, "next_due_at": null, "is_overdue": false,
        "last_success_at": null, "last_run": null
    }],
    "breakers": [{ "name": "csp", "state": "closed" }, { "name": "niosxaas", "state": "closed" }],
    "warnings": [{ "code": "pool_low", "message": "12 sandboxes are available, fewer than 20." }]
}))]
pub struct OverviewBody {
    /// Now, by the broker's clock.
    pub at: UnixSeconds,
    /// When the sandboxes were counted: a few seconds ago, unless counting fails.
    pub counted_at: UnixSeconds,
    /// How many there are.
    pub counts: StatsBody,
    /// `POOL_LOW_THRESHOLD`.
    pub pool_low_below: u64,
    /// Sandboxes that were allocated in the last hour, to within five minutes, by all brokers.
    pub allocations_last_hour: u64,
    /// Sandboxes that were given back in the last hour, or taken back because their time was up.
    pub releases_last_hour: u64,
    /// How long the available ones last if allocations go on as in the last hour; `null` if there were none.
    pub lasts_for_seconds: Option<u64>,
    /// Every job.
    pub jobs: Vec<JobBody>,
    /// The circuit breakers of the broker that answers; each broker has its own.
    pub breakers: Vec<BreakerBody>,
    /// What somebody should look at.
    pub warnings: Vec<Warning>,
}

/// A job, and how it stands. Times are Unix seconds.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct JobBody {
    /// The job.
    pub job: JobName,
    /// How often it should run; `null` if only people start it.
    pub interval_seconds: Option<u64>,
    /// When its next run is due; it may have been long ago.
    pub next_due_at: Option<UnixSeconds>,
    /// Whether it has not succeeded for three intervals, and for half an hour.
    pub is_overdue: bool,
    /// When it last succeeded.
    pub last_success_at: Option<UnixSeconds>,
    /// Its last run.
    pub last_run: Option<RunRecord>,
}

/// A circuit breaker.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct BreakerBody {
    /// What it stands before: `csp` or `niosxaas`.
    pub name: &'static str,
    /// `closed`: calls go through. `open`: none do for a while. `half_open`: one at a time tries.
    pub state: &'static str,
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

/// Look at the pool at a glance
///
/// Sandboxes are counted when the last count is older than ten seconds, however many ask.
#[utoipa::path(
    get,
    path = "/admin/overview",
    tag = "Admin",
    responses((status = 200, description = "How the pool is", body = OverviewBody), OverviewErrors),
    security(("admin_token" = [])),
)]
pub(super) async fn overview(
    State(state): State<AppState>,
    _: Admin,
) -> Result<Json<OverviewBody>, ApiError> {
    let context = state.runner.context();
    let at = state.clock.now();
    // First, because it notes what happened since the last look, which the samples then have.
    let counted = state.watch.counted().await?;
    let (samples, jobs) = tokio::try_join!(
        context.store.samples_since(at - HOUR),
        try_join_all(JobName::ALL.map(|job| look_at(context, job, at))),
    )?;
    let breakers = [
        ("csp", &context.csp_breaker),
        ("niosxaas", &context.niosxaas_breaker),
    ];
    let breakers = breakers.map(|(name, breaker)| BreakerBody {
        name,
        state: breaker.state(),
    });
    let low_below = context.jobs.pool_low_below;
    let allocations = samples.iter().map(|sample| sample.allocations).sum();
    Ok(Json(OverviewBody {
        at,
        counted_at: counted.at,
        counts: counted.counts.into(),
        pool_low_below: low_below,
        allocations_last_hour: allocations,
        releases_last_hour: samples.iter().map(|sample| sample.releases).sum(),
        lasts_for_seconds: lasts_for(counted.counts.available, &samples, at),
        warnings: warnings(&counted.counts, low_below, &jobs, &breakers, at),
        jobs,
        breakers: breakers.into(),
    }))
}

async fn look_at(
    context: &JobContext,
    job: JobName,
    now: UnixSeconds,
) -> Result<JobBody, StoreError> {
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
    Ok(JobBody {
        job,
        interval_seconds: interval.map(|interval| interval.as_secs()),
        next_due_at,
        is_overdue,
        last_success_at,
        last_run,
    })
}

/// How long the available sandboxes last, at the rate of the samples up to `now`.
fn lasts_for(available: u64, samples: &[Sample], now: UnixSeconds) -> Option<u64> {
    let allocations: u64 = samples.iter().map(|sample| sample.allocations).sum();
    // A broker that has just begun to take samples has not seen an hour.
    let seen = samples.first().map(|first| now.0 - first.at.0)?;
    let seen = u64::try_from(seen).unwrap_or(0).max(SAMPLE_SPAN.as_secs());
    (available * seen).checked_div(allocations)
}

fn warnings(
    counts: &Counts,
    low_below: u64,
    jobs: &[JobBody],
    breakers: &[BreakerBody],
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
    let open = breakers.iter().filter(|breaker| breaker.state == "open");
    let open = open.map(|breaker| {
        let name = breaker.name;
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

fn warnings_of_job(job: &JobBody, now: UnixSeconds) -> impl Iterator<Item = (WarningCode, String)> {
    let name = job.job;
    // No next run takes the place of one that people start.
    let is_news = |run: &RunRecord| job.interval_seconds.is_some() || run.updated_at + DAY >= now;
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

/// The pool's past.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "every_seconds": 300, "samples": [{
    "at": 1_774_000_200, "available": 187, "allocated": 11, "pending_deletion": 2, "stale": 0, "deletion_failed": 0,
    "allocations": 6, "releases": 4
}] }))]
pub struct SamplesBody {
    /// The time that each sample is of, in seconds.
    pub every_seconds: u64,
    /// The samples, oldest first. There is none of a time in which no broker ran.
    pub samples: Vec<Sample>,
}

/// How far back.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SamplesParams {
    /// So many hours: 1 to 168, 24 if absent.
    #[param(required = false, minimum = 1, maximum = 168, example = 24)]
    hours: Option<u64>,
}

/// Look at the pool's past
///
/// Brokers note every minute how the pool is and what callers did. Samples are kept for a week.
#[utoipa::path(
    get,
    path = "/admin/samples",
    tag = "Admin",
    params(SamplesParams),
    responses((status = 200, description = "How the pool was", body = SamplesBody), SamplesErrors),
    security(("admin_token" = [])),
)]
pub(super) async fn samples(
    State(state): State<AppState>,
    _: Admin,
    ApiQuery(SamplesParams { hours }): ApiQuery<SamplesParams>,
) -> Result<Json<SamplesBody>, ApiError> {
    let hours = hours.unwrap_or(DEFAULT_HOURS);
    if !(1..=MAX_HOURS).contains(&hours) {
        return Err(ApiError::new(
            ErrorCode::InvalidParameter,
            format!("hours takes a number from 1 to {MAX_HOURS}."),
        ));
    }
    let since = state.clock.now() - Duration::from_hours(hours);
    Ok(Json(SamplesBody {
        every_seconds: SAMPLE_SPAN.as_secs(),
        samples: state.runner.context().store.samples_since(since).await?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: i64, allocations: u64) -> Sample {
        Sample {
            at: UnixSeconds(at),
            available: 0,
            allocated: 0,
            pending_deletion: 0,
            stale: 0,
            deletion_failed: 0,
            allocations,
            releases: 0,
        }
    }

    #[test]
    fn the_pool_lasts_as_long_as_it_does_at_the_rate_of_the_last_hour() {
        let now = UnixSeconds(10_000);
        let hour = [sample(6_400, 60), sample(9_900, 30)];
        assert_eq!(lasts_for(180, &hour, now), Some(7_200));
        assert_eq!(lasts_for(0, &hour, now), Some(0));
        assert_eq!(lasts_for(180, &[sample(6_400, 0)], now), None);
        assert_eq!(lasts_for(180, &[], now), None);
        // Ten a five minutes, seen for one minute only.
        assert_eq!(lasts_for(20, &[sample(9_940, 10)], now), Some(600));
    }

    #[test]
    fn a_failure_is_news_until_the_next_run_or_for_a_day() {
        let failed = |job, interval_seconds| JobBody {
            job,
            interval_seconds,
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
        let is_told = |job: &JobBody, now| warnings_of_job(job, now).count() == 1;
        assert!(is_told(&by_hand, UnixSeconds(10) + DAY));
        assert!(!is_told(&by_hand, UnixSeconds(11) + DAY));
        let scheduled = failed(JobName::Sync, Some(600));
        assert!(is_told(&scheduled, UnixSeconds(11) + DAY));
    }
}
