//! Leaks: allocations whose play is likely over, and their release in one go.

use axum::{Json, extract::State, http::Method};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error_responses::error_set,
    extract::{ApiJson, ApiQuery, Operator, Viewer},
    paging::{page_limit, page_start},
};
use crate::{
    broker::{LeakPage, LeakRelease, Refusal},
    clock::UnixSeconds,
    domain::{
        AuditAction, AuditTarget, Author, Basis, LabHistory, LabId, Leak, Reason, SandboxId,
        SeenAllocation, Status,
    },
    http::{
        AppState,
        error::{ApiError, ErrorCode},
    },
    store::Position,
};

error_set! {
    /// The errors of listing leaks.
    LeaksErrors: InvalidParameter, InvalidCursor, StoreUnavailable
}
error_set! {
    /// The errors of releasing leaks, apart from those of single ones.
    ReleaseLeaksErrors: InvalidBody
}

/// The maximum number of allocations in a request.
const MAX_RELEASES: usize = 500;

/// The operations whose body may be large: a list of allocations.
pub(super) const WITH_LARGE_BODY: [(Method, &str); 1] = [(Method::POST, "/admin/leaks/release")];

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_leaks))
        .routes(routes!(release_leaks))
}

/// A page of leaks. Times are Unix seconds.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Leaks, example = json!({
    "generated_at": 1_774_009_000,
    "leaks": [{
        "sandbox_id": "2009521", "name": "lab-adventure-0087", "caller": "play-7f3a91", "lab": "cloud-security-101",
        "allocated_at": 1_774_000_000, "extended_at": null, "expires_at": 1_774_014_400, "held_sec": 9000,
        "usual_sec": 3300, "basis": "history"
    }],
    "labs": [{
        "lab": "cloud-security-101", "durations": 100, "usual_sec": 3300, "suspected_after_sec": 4950,
        "updated_at": 1_774_008_600
    }],
    "cursor": null
}))]
struct LeaksBody {
    /// When the allocations were judged.
    generated_at: UnixSeconds,
    /// The allocations whose play is likely over, the oldest first.
    leaks: Vec<LeakBody>,
    /// The labs with a history, by id: all of them on the first page, none on the others.
    labs: Vec<LabHistoryBody>,
    /// The cursor of the next page; `null` on the last page. A page that is short, or empty, may have a next page.
    cursor: Option<String>,
}

/// An allocation whose play is likely over.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Leak)]
struct LeakBody {
    /// The id of the sandbox.
    sandbox_id: String,
    /// The name of the account.
    name: String,
    /// The caller that holds it; `null` if the item names none.
    caller: Option<String>,
    /// The lab of the caller; `null` if it named none.
    lab: Option<String>,
    /// When it was allocated.
    allocated_at: UnixSeconds,
    /// When the end of the allocation was last moved; `null` if it never was.
    extended_at: Option<UnixSeconds>,
    /// When the allocation ends.
    expires_at: Option<UnixSeconds>,
    /// For how many seconds it has been held.
    held_sec: u64,
    /// How many seconds such an allocation usually lasts.
    usual_sec: u64,
    /// The source of `usual_sec`.
    basis: BasisBody,
}

/// The source of a usual duration: `history`, the 95th percentile of the last durations of the lab; `end`, the end of the
/// allocation itself, because its lab has no history, or it names no lab.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LeakBasis)]
enum BasisBody {
    History,
    End,
}

/// How long the allocations of a lab usually last.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = LabHistory)]
struct LabHistoryBody {
    /// The id of the lab.
    lab: String,
    /// The number of durations that are known, at most 100: those of allocations that their holders released.
    durations: usize,
    /// Their 95th percentile, in seconds; `null` with fewer than 10.
    usual_sec: Option<u64>,
    /// How many seconds after its allocation or last extension a play is suspected to be over; `null` with fewer than 10.
    suspected_after_sec: Option<u64>,
    /// When the last duration was added.
    updated_at: Option<UnixSeconds>,
}

impl From<LeakPage> for LeaksBody {
    fn from(page: LeakPage) -> Self {
        Self {
            generated_at: page.at,
            leaks: page.leaks.into_iter().map(Into::into).collect(),
            labs: page.labs.into_iter().map(Into::into).collect(),
            cursor: page.next.as_ref().map(Position::to_cursor),
        }
    }
}

impl From<Leak> for LeakBody {
    fn from(leak: Leak) -> Self {
        let Leak {
            sandbox,
            held,
            usual,
        } = leak;
        let (caller, lab) = sandbox.holder.map_or((None, None), |holder| {
            (Some(holder.caller.to_string()), holder.lab)
        });
        Self {
            sandbox_id: sandbox.account.sandbox_id.to_string(),
            name: sandbox.account.name,
            caller,
            lab: lab.map(|lab| lab.to_string()),
            allocated_at: sandbox.allocated_at,
            extended_at: sandbox.lease.extended_at,
            expires_at: sandbox.expires_at,
            held_sec: held.as_secs(),
            usual_sec: usual.duration.as_secs(),
            basis: match usual.basis {
                Basis::History => BasisBody::History,
                Basis::End => BasisBody::End,
            },
        }
    }
}

impl From<(LabId, LabHistory)> for LabHistoryBody {
    fn from((lab, history): (LabId, LabHistory)) -> Self {
        Self {
            lab: lab.to_string(),
            durations: history.durations.len(),
            usual_sec: history.usual().map(|usual| usual.as_secs()),
            suspected_after_sec: history.suspected_after().map(|after| after.as_secs()),
            updated_at: history.updated_at,
        }
    }
}

/// The page of a listing.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct LeaksParams {
    /// The number of leaks on a page: 1 to 1000, 50 if absent.
    #[param(required = false, minimum = 1, maximum = 1000, example = 50)]
    limit: Option<usize>,
    /// The cursor of the previous page.
    #[param(required = false)]
    cursor: Option<String>,
}

/// The allocations to release, as they were listed.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReleaseLeaks, example = json!({
    "reason": "the class of this morning is over",
    "allocations": [{ "sandbox_id": "2009521", "allocated_at": 1_774_000_000, "expires_at": 1_774_014_400 }]
}))]
struct ReleaseLeaksBody {
    /// Why, in the words of the operator: 1 to 500 printable characters in one line.
    #[schema(value_type = String, min_length = 1, max_length = 500)]
    reason: Reason,
    /// The allocations: 1 to 500.
    #[schema(min_items = 1, max_items = 500)]
    allocations: Vec<SeenBody>,
}

/// An allocation as it was listed. Another allocation of the same sandbox is not released.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SeenAllocation)]
struct SeenBody {
    /// The id of the sandbox.
    #[schema(min_length = 1, max_length = 256)]
    sandbox_id: String,
    /// When it was allocated.
    allocated_at: UnixSeconds,
    /// When the allocation ends. If it is present, an allocation that was extended since is not released.
    #[serde(default)]
    #[schema(required = false)]
    expires_at: Option<UnixSeconds>,
}

impl ReleaseLeaksBody {
    /// Returns the reason, and the allocations with their sandboxes.
    fn parse(self) -> Result<(Reason, Vec<(SandboxId, SeenAllocation)>), ApiError> {
        let count = self.allocations.len();
        if !(1..=MAX_RELEASES).contains(&count) {
            let fault = format!("allocations has {count} entries, and takes 1 to {MAX_RELEASES}");
            return Err(ApiError::invalid_body(fault));
        }
        let allocations = self.allocations.into_iter().enumerate();
        let allocations = allocations.map(|(index, seen)| {
            let id = SandboxId::parse(&seen.sandbox_id).map_err(|fault| {
                ApiError::invalid_body(format!("allocations[{index}].sandbox_id {fault}"))
            })?;
            let allocation = SeenAllocation {
                allocated_at: seen.allocated_at,
                expires_at: seen.expires_at,
            };
            Ok::<_, ApiError>((id, allocation))
        });
        Ok((self.reason, allocations.collect::<Result<_, _>>()?))
    }
}

/// The outcomes of releases, in the order of the request.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = LeakReleases, example = json!({
    "released": 1, "refused": 1, "failed": 0, "not_attempted": 0,
    "results": [
        { "sandbox_id": "2009521", "outcome": "released", "code": null, "message": null },
        { "sandbox_id": "2009522", "outcome": "refused", "code": "SANDBOX_PENDING_DELETION",
          "message": "The sandbox waits for its deletion, so this action does not apply." }
    ]
}))]
struct LeakReleasesBody {
    /// The number of allocations released.
    released: usize,
    /// The number of those that cannot be released, such as those that have been released or have expired since.
    refused: usize,
    /// The number of those whose release failed: repeat the request for these.
    failed: usize,
    /// The number of those that were not started in the time of the request: repeat the request for these.
    not_attempted: usize,
    /// The outcome of each release.
    results: Vec<LeakReleaseBody>,
}

/// The outcome of one release.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = LeakRelease)]
struct LeakReleaseBody {
    /// The id of the sandbox.
    sandbox_id: String,
    /// The outcome of the release.
    outcome: OutcomeBody,
    /// The code of the error, if it was refused or failed.
    code: Option<ErrorCode>,
    /// A description of the error, for human readers.
    message: Option<String>,
}

/// The outcome of a release: `released`; `refused`, because of the state of its sandbox, so that a repetition changes
/// nothing; `failed`, by an error of the broker or its database, so that it may have been released nevertheless;
/// `not_attempted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LeakOutcome)]
enum OutcomeBody {
    Released,
    Refused,
    Failed,
    NotAttempted,
}

impl LeakReleasesBody {
    fn new(results: Vec<LeakReleaseBody>) -> Self {
        let count = |outcome| {
            let has_outcome = |result: &&LeakReleaseBody| result.outcome == outcome;
            results.iter().filter(has_outcome).count()
        };
        Self {
            released: count(OutcomeBody::Released),
            refused: count(OutcomeBody::Refused),
            failed: count(OutcomeBody::Failed),
            not_attempted: count(OutcomeBody::NotAttempted),
            results,
        }
    }
}

impl LeakReleaseBody {
    fn new(id: &SandboxId, release: LeakRelease) -> Self {
        let (outcome, error) = match release {
            LeakRelease::Released => (OutcomeBody::Released, None),
            LeakRelease::NotAttempted => (OutcomeBody::NotAttempted, None),
            LeakRelease::Failed(error) => {
                let (code, message) = ApiError::from(error).into_result();
                let outcome = if code.status().is_client_error() {
                    OutcomeBody::Refused
                } else {
                    OutcomeBody::Failed
                };
                (outcome, Some((code, message)))
            }
        };
        let (code, message) = error.unzip();
        Self {
            sandbox_id: id.to_string(),
            outcome,
            code,
            message,
        }
    }
}

/// List the allocations whose play is likely over
///
/// Most are those of plays whose cleanup script did not run, or failed. Allocations of a lab are listed when the time since
/// their allocation or last extension is half as long again as is usual for the lab, and at least 30 minutes. Usual is the
/// 95th percentile of the last durations of allocations that their holders released; with fewer than 10, and without a lab,
/// the end of the allocation counts. Page by page: repeat the request with the `cursor` of the answer until it is `null`.
#[utoipa::path(
    get,
    path = "/admin/leaks",
    tag = "Admin",
    params(LeaksParams),
    responses((status = 200, description = "A page of leaks", body = LeaksBody), LeaksErrors),
    security(("viewer_token" = [])),
)]
async fn list_leaks(
    State(state): State<AppState>,
    _: Viewer,
    ApiQuery(LeaksParams { limit, cursor }): ApiQuery<LeaksParams>,
) -> Result<Json<LeaksBody>, ApiError> {
    let limit = page_limit(limit)?;
    let start = page_start(cursor, |cursor| {
        Position::from_cursor(cursor, Some(Status::Allocated))
    })?;
    Ok(Json(state.broker.leaks(limit, start).await?.into()))
}

/// Release allocations that were listed
///
/// Each as by `POST /admin/sandboxes/{sandbox_id}/release`, with an audit record and an outcome of its own; a failure does
/// not stop the others. An allocation that is not the listed one is refused with `ALLOCATION_CHANGED`. The request may be
/// repeated: those that are released already are then refused with `SANDBOX_PENDING_DELETION`.
#[utoipa::path(
    post,
    path = "/admin/leaks/release",
    tag = "Admin",
    request_body = ReleaseLeaksBody,
    responses((status = 200, description = "The outcome of each release", body = LeakReleasesBody), ReleaseLeaksErrors),
    security(("operator_token" = [])),
)]
async fn release_leaks(
    State(state): State<AppState>,
    Operator(author): Operator,
    ApiJson(body): ApiJson<ReleaseLeaksBody>,
) -> Result<Json<LeakReleasesBody>, ApiError> {
    let (reason, seen) = body.parse()?;
    let ids: Vec<_> = seen.iter().map(|(id, _)| id.clone()).collect();
    let releases = state.broker.release_leaks(seen, &author, &reason).await;
    let results = ids.into_iter().zip(releases).map(|(id, release)| {
        let result = LeakReleaseBody::new(&id, release);
        record_refusal(&state, &result, id, &author, &reason);
        result
    });
    Ok(Json(LeakReleasesBody::new(results.collect())))
}

/// Records a refused release in the audit, as that of a single sandbox is recorded.
fn record_refusal(
    state: &AppState,
    result: &LeakReleaseBody,
    id: SandboxId,
    author: &Author,
    reason: &Reason,
) {
    let Some(code) = result
        .code
        .filter(|_| result.outcome == OutcomeBody::Refused)
    else {
        return;
    };
    state.refusals.record(&author.name, || Refusal {
        author: author.clone(),
        action: AuditAction::Release,
        target: AuditTarget::Sandbox(id),
        reason: Some(reason.clone()),
        code: code.as_str(),
    });
}
