//! The pool at a glance, and its past: what the dashboard shows first.

use std::time::Duration;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    admin::StatsBody,
    error_responses::error_set,
    extract::{Admin, ApiQuery},
    jobs::RunBody,
};
use crate::{
    clock::UnixSeconds,
    domain::{JobName, SAMPLE_RETENTION, SAMPLE_SPAN, Sample},
    http::{
        AppState,
        error::{ApiError, ErrorCode},
    },
    jobs::overview::{JobOverview, Overview, Warning},
};

error_set! {
    /// What looking at the pool may fail with.
    OverviewErrors: StoreUnavailable
}
error_set! {
    /// What looking at its past may fail with.
    SamplesErrors: InvalidParameter, StoreUnavailable
}

const DEFAULT_HOURS: u64 = 24;
const MAX_HOURS: u64 = SAMPLE_RETENTION.as_secs() / 3600;

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
pub(crate) struct OverviewBody {
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
pub(crate) struct JobBody {
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
    pub last_run: Option<RunBody>,
}

/// A circuit breaker.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct BreakerBody {
    /// What it stands before: `csp` or `niosxaas`.
    pub name: &'static str,
    /// `closed`: calls go through. `open`: none do for a while. `half_open`: one at a time tries.
    pub state: &'static str,
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
    let overview = state.monitor.overview().await?;
    Ok(Json(overview.into()))
}

impl From<Overview> for OverviewBody {
    fn from(overview: Overview) -> Self {
        let Overview {
            at,
            counted,
            pool_low_below,
            last_hour,
            lasts_for,
            jobs,
            breakers,
            warnings,
        } = overview;
        Self {
            at,
            counted_at: counted.at,
            counts: counted.counts.into(),
            pool_low_below,
            allocations_last_hour: last_hour.allocations,
            releases_last_hour: last_hour.releases,
            lasts_for_seconds: lasts_for.map(|span| span.as_secs()),
            jobs: jobs.into_iter().map(Into::into).collect(),
            breakers: breakers
                .into_iter()
                .map(|(name, state)| BreakerBody { name, state })
                .collect(),
            warnings,
        }
    }
}

impl From<JobOverview> for JobBody {
    fn from(job: JobOverview) -> Self {
        Self {
            job: job.job,
            interval_seconds: job.interval.map(|interval| interval.as_secs()),
            next_due_at: job.next_due_at,
            is_overdue: job.is_overdue,
            last_success_at: job.last_success_at,
            last_run: job.last_run.map(Into::into),
        }
    }
}

/// The pool in five minutes of its past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Sample, example = json!({
    "at": 1_774_000_200, "available": 187, "allocated": 11, "pending_deletion": 2, "stale": 0, "deletion_failed": 0,
    "allocations": 6, "releases": 4
}))]
pub(crate) struct SampleBody {
    /// When the five minutes began, in Unix seconds.
    pub at: UnixSeconds,
    /// In the pool, when it was last counted in that time.
    pub available: u64,
    /// Held by callers.
    pub allocated: u64,
    /// Waiting for deletion from CSP.
    pub pending_deletion: u64,
    /// No longer listed by CSP.
    pub stale: u64,
    /// Refused deletion by CSP.
    pub deletion_failed: u64,
    /// Sandboxes that were allocated in that time, by all brokers.
    pub allocations: u64,
    /// Sandboxes that were given back in that time, or taken back because theirs was up.
    pub releases: u64,
}

impl From<Sample> for SampleBody {
    fn from(Sample { at, counts, flow }: Sample) -> Self {
        Self {
            at,
            available: counts.available,
            allocated: counts.allocated,
            pending_deletion: counts.pending_deletion,
            stale: counts.stale,
            deletion_failed: counts.deletion_failed,
            allocations: flow.allocations,
            releases: flow.releases,
        }
    }
}

/// The pool's past.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "every_seconds": 300, "samples": [{
    "at": 1_774_000_200, "available": 187, "allocated": 11, "pending_deletion": 2, "stale": 0, "deletion_failed": 0,
    "allocations": 6, "releases": 4
}] }))]
pub(crate) struct SamplesBody {
    /// The time that each sample is of, in seconds.
    pub every_seconds: u64,
    /// The samples, oldest first. There is none of a time in which no broker ran.
    pub samples: Vec<SampleBody>,
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
    let samples = state.monitor.samples(Duration::from_hours(hours)).await?;
    Ok(Json(SamplesBody {
        every_seconds: SAMPLE_SPAN.as_secs(),
        samples: samples.into_iter().map(Into::into).collect(),
    }))
}
