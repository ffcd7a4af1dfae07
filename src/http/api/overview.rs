//! The overview and the samples of the pool, which the dashboard shows.

mod pools;

use std::time::Duration;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::pools::PoolBody;
use super::{
    admin::StatsBody,
    error_responses::error_set,
    extract::{ApiQuery, Viewer},
    pauses::PauseBody,
    runs::RunBody,
};
use crate::{
    broker::policy::PolicyStatus,
    clock::UnixSeconds,
    domain::{JobName, LabUsage, SAMPLE_RETENTION, SAMPLE_SPAN, Sample},
    http::{
        AppState,
        error::{ApiError, ErrorCode},
    },
    jobs::overview::{JobOverview, Overview, Warning},
};

error_set! {
    /// The errors of the overview.
    OverviewErrors: StoreUnavailable
}
error_set! {
    /// The errors of listing samples.
    SamplesErrors: InvalidParameter, StoreUnavailable
}

/// The hours of samples, unless the request says otherwise.
const DEFAULT_HOURS: u64 = 24;
const MAX_HOURS: u64 = SAMPLE_RETENTION.as_secs() / 3600;

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(overview))
        .routes(routes!(samples))
}

/// An overview of the pool. Times are Unix seconds.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "at": 1_774_000_000, "counted_at": 1_773_999_994, "expected_available": 15, "pool_low_below": 20,
    "grace_period_seconds": 1800,
    "counts": { "total": 203, "provisioning": 3, "available": 12, "allocated": 186, "pending_deletion": 2, "stale": 0, "deletion_failed": 0,
        "quarantined": 0, "unreadable": 0 },
    "allocations_last_hour": 90, "releases_last_hour": 4, "lasts_for_seconds": 480,
    "jobs": [{
        "job": "bulk-delete", "is_off": false, "interval_seconds": null, "next_due_at": null, "is_overdue": false,
        "last_success_at": null, "last_run": null
    }],
    "breakers": [{ "name": "csp", "state": "closed" }, { "name": "niosxaas", "state": "closed" }],
    "pauses": [],
    "labs": [
        { "lab": "cloud-security-101", "held": 58, "max_held": 60 }, { "lab": "other", "held": 128, "max_held": null }
    ],
    "policy": { "version": 3, "author": "anna", "at": 1_773_990_000, "fault": null },
    "pools": [{
        "name_prefix": "lab-adventure-", "mode": "on", "state": "filling", "reason": null, "since": 1_773_999_400,
        "target": 50, "target_available": 50, "schedule": null, "available": 12, "provisioning": 3, "under_way": 5,
        "allocated": 186, "quarantined": 0, "total": 203, "max_total": 300, "time_to_available_sec": 540
    }],
    "warnings": [{ "code": "pool_low", "message": "12 sandboxes are available, fewer than 20." }]
}))]
pub(crate) struct OverviewBody {
    /// The current time.
    pub at: UnixSeconds,
    /// When the sandboxes were counted: at most ten seconds ago, unless counting fails.
    pub counted_at: UnixSeconds,
    /// The number of sandboxes by status.
    pub counts: StatsBody,
    /// The sandboxes that are available, or are being created or checked and will be available in time. Fewer than
    /// `pool_low_below` are a warning.
    pub expected_available: u64,
    /// The threshold of the warning `pool_low` (`POOL_LOW_THRESHOLD`).
    pub pool_low_below: u64,
    /// How long a caller keeps its sandbox after the end of the allocation (`GRACE_PERIOD_MINUTES`).
    pub grace_period_seconds: u64,
    /// Allocations of all brokers in the last hour, to within five minutes.
    pub allocations_last_hour: u64,
    /// Releases and expiries in the last hour, to within five minutes.
    pub releases_last_hour: u64,
    /// How long the available sandboxes last at the rate of allocations of the last hour, in seconds; `null` without
    /// allocations.
    pub lasts_for_seconds: Option<u64>,
    /// The state of every job.
    pub jobs: Vec<JobBody>,
    /// The circuit breakers, which all processes share through the companion table.
    pub breakers: Vec<BreakerBody>,
    /// The pauses in force, as of at most five seconds ago.
    pub pauses: Vec<PauseBody>,
    /// The sandboxes held by each lab that the policy names and that holds some or has a quota of its own, at most 200,
    /// ordered by id; at the end those of all others together, as `other`.
    pub labs: Vec<LabBody>,
    /// The policy in force in this broker.
    pub policy: PolicyStatusBody,
    /// The pools of the policy, ordered by name prefix, as of the last count.
    pub pools: Vec<PoolBody>,
    /// Conditions that need attention.
    pub warnings: Vec<Warning>,
}

/// The policy in force in a broker, as of at most five seconds ago.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PolicyStatusBody {
    /// The number of the version; 0 for the terms of the environment.
    pub version: u32,
    /// The name of the principal that wrote it; `null` for the terms of the environment.
    pub author: Option<String>,
    /// When it was written, in Unix seconds; `null` for the terms of the environment.
    pub at: Option<UnixSeconds>,
    /// Why the policy in the table cannot be read; `null` if it can. A newer version may then not be in force.
    pub fault: Option<String>,
}

/// The state of a job. Times are Unix seconds.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct JobBody {
    /// The job.
    pub job: JobName,
    /// Whether its mode is `off` (`CHECK_MODE`, `REFILL_MODE`): it never runs.
    pub is_off: bool,
    /// The interval of its runs; `null` if only operators start it, or if it is off.
    pub interval_seconds: Option<u64>,
    /// When its next run is scheduled; possibly in the past.
    pub next_due_at: Option<UnixSeconds>,
    /// Whether it has neither succeeded nor been stopped by a pause for three intervals, and for half an hour.
    pub is_overdue: bool,
    /// When it last succeeded.
    pub last_success_at: Option<UnixSeconds>,
    /// Its last run.
    pub last_run: Option<RunBody>,
}

/// The sandboxes that a lab holds.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct LabBody {
    /// The id of the lab (`X-Instruqt-Track-ID`), or `other`.
    pub lab: String,
    /// How many sandboxes it holds.
    pub held: u64,
    /// How many it may hold; `null` without a quota.
    pub max_held: Option<u32>,
}

/// A circuit breaker.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct BreakerBody {
    /// The service that it protects: `csp` or `niosxaas`.
    pub name: &'static str,
    /// `closed`: calls are made. `open`: no calls are made for a while. `half_open`: one call at a time is made as a
    /// probe.
    pub state: &'static str,
}

/// Get an overview of the pool
///
/// Sandboxes are counted at most once in ten seconds, for any number of requests.
#[utoipa::path(
    get,
    path = "/admin/overview",
    tag = "Admin",
    responses((status = 200, description = "The overview", body = OverviewBody), OverviewErrors),
    security(("viewer_token" = [])),
)]
async fn overview(
    State(state): State<AppState>,
    _: Viewer,
) -> Result<Json<OverviewBody>, ApiError> {
    let overview = state.monitor.overview().await?;
    Ok(Json(overview.into()))
}

impl From<Overview> for OverviewBody {
    fn from(overview: Overview) -> Self {
        let Overview {
            at,
            counted,
            expected,
            pools,
            refill_mode,
            pool_low_below,
            grace,
            last_hour,
            lasts_for,
            jobs,
            breakers,
            pauses,
            labs,
            policy,
            warnings,
        } = overview;
        Self {
            at,
            counted_at: counted.at,
            counts: counted.into(),
            expected_available: expected,
            pool_low_below,
            grace_period_seconds: grace.as_secs(),
            allocations_last_hour: last_hour.allocations,
            releases_last_hour: last_hour.releases,
            lasts_for_seconds: lasts_for.map(|span| span.as_secs()),
            jobs: jobs.into_iter().map(Into::into).collect(),
            breakers: breakers
                .into_iter()
                .map(|(name, state)| BreakerBody { name, state })
                .collect(),
            pauses: pauses.into_iter().map(Into::into).collect(),
            labs: labs.into_iter().map(Into::into).collect(),
            policy: policy.into(),
            pools: pools
                .into_iter()
                .map(|pool| PoolBody::new(pool, refill_mode))
                .collect(),
            warnings,
        }
    }
}

impl From<LabUsage> for LabBody {
    fn from(
        LabUsage {
            lab,
            held,
            max_held,
        }: LabUsage,
    ) -> Self {
        Self {
            lab: lab.to_string(),
            held,
            max_held,
        }
    }
}

impl From<PolicyStatus> for PolicyStatusBody {
    fn from(status: PolicyStatus) -> Self {
        let version = status.version.as_ref();
        Self {
            version: status.number(),
            author: version.map(|version| version.author.to_string()),
            at: version.map(|version| version.at),
            fault: status.fault,
        }
    }
}

impl From<JobOverview> for JobBody {
    fn from(job: JobOverview) -> Self {
        Self {
            job: job.job,
            is_off: job.off_by.is_some(),
            interval_seconds: job.interval.map(|interval| interval.as_secs()),
            next_due_at: job.next_due_at,
            is_overdue: job.is_overdue,
            last_success_at: job.last_success_at,
            last_run: job.last_run.map(Into::into),
        }
    }
}

/// The pool in an interval of five minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Sample, example = json!({
    "at": 1_774_000_200, "provisioning": 3, "available": 187, "allocated": 11, "pending_deletion": 2, "stale": 0, "deletion_failed": 0,
    "quarantined": 0, "allocations": 6, "releases": 4
}))]
pub(crate) struct SampleBody {
    /// The start of the interval, in Unix seconds.
    pub at: UnixSeconds,
    /// Sandboxes not known to be usable yet at the last count in the interval.
    pub provisioning: u64,
    /// Available for allocation.
    pub available: u64,
    /// Held by callers.
    pub allocated: u64,
    /// Waiting for deletion from CSP.
    pub pending_deletion: u64,
    /// No longer listed by CSP.
    pub stale: u64,
    /// Deletion from CSP given up.
    pub deletion_failed: u64,
    /// Set aside by operators or by a check.
    pub quarantined: u64,
    /// Allocations of all brokers in the interval.
    pub allocations: u64,
    /// Releases and expiries in the interval.
    pub releases: u64,
}

impl From<Sample> for SampleBody {
    fn from(Sample { at, counts, flow }: Sample) -> Self {
        Self {
            at,
            provisioning: counts.provisioning,
            available: counts.available,
            allocated: counts.allocated,
            pending_deletion: counts.pending_deletion,
            stale: counts.stale,
            deletion_failed: counts.deletion_failed,
            quarantined: counts.quarantined,
            allocations: flow.allocations,
            releases: flow.releases,
        }
    }
}

/// Samples of the pool.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "every_seconds": 300, "samples": [{
    "at": 1_774_000_200, "provisioning": 3, "available": 187, "allocated": 11, "pending_deletion": 2, "stale": 0, "deletion_failed": 0,
    "quarantined": 0, "allocations": 6, "releases": 4
}] }))]
pub(crate) struct SamplesBody {
    /// The interval of a sample, in seconds.
    pub every_seconds: u64,
    /// The samples, oldest first. An interval in which no broker ran has no sample.
    pub samples: Vec<SampleBody>,
}

/// The time span of a listing.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SamplesParams {
    /// The hours before now: 1 to 168, 24 if absent.
    #[param(required = false, minimum = 1, maximum = 168, example = 24)]
    hours: Option<u64>,
}

/// List samples of the pool
///
/// Every minute brokers record counts, allocations and releases. Samples are kept for a week.
#[utoipa::path(
    get,
    path = "/admin/samples",
    tag = "Admin",
    params(SamplesParams),
    responses((status = 200, description = "The samples", body = SamplesBody), SamplesErrors),
    security(("viewer_token" = [])),
)]
async fn samples(
    State(state): State<AppState>,
    _: Viewer,
    ApiQuery(SamplesParams { hours }): ApiQuery<SamplesParams>,
) -> Result<Json<SamplesBody>, ApiError> {
    let hours = hours.unwrap_or(DEFAULT_HOURS);
    if !(1..=MAX_HOURS).contains(&hours) {
        return Err(ApiError::new(
            ErrorCode::InvalidParameter,
            format!("hours must be a number from 1 to {MAX_HOURS}."),
        ));
    }
    let samples = state.monitor.samples(Duration::from_hours(hours)).await?;
    Ok(Json(SamplesBody {
        every_seconds: SAMPLE_SPAN.as_secs(),
        samples: samples.into_iter().map(Into::into).collect(),
    }))
}
