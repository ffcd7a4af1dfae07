//! The forecast of the pools.

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error_responses::error_set,
    extract::{ApiQuery, Viewer},
};
use crate::{
    clock::UnixSeconds,
    domain::{ScheduledTarget, Shortfall},
    http::{
        AppState,
        error::{ApiError, ErrorCode},
    },
    jobs::forecast::{ExpectedPool, Forecast},
};

error_set! {
    /// The errors of the forecast.
    ForecastErrors: InvalidParameter, StoreUnavailable
}

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get_forecast))
}

/// The time of a forecast.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ForecastParams {
    /// The time, from now to 90 days ahead: a date and time with an offset (RFC 3339), or Unix seconds.
    // Optional only for serde, whose message for a missing field does not say what the parameter takes.
    #[param(value_type = String, required = true, example = "2026-11-28T10:00:00+01:00")]
    at: Option<String>,
}

/// The forecast of the pools for a time. Times are Unix seconds.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Forecast, example = json!({
    "at": 1_795_856_400, "now": 1_795_806_000,
    "assumptions": [
        "Until then, nobody allocates or releases a sandbox, and operators change neither sandboxes nor the policy.",
        "REFILL_MODE is on: refill creates at most 5 sandboxes every 60 s, for all pools together, and CSP refuses none."
    ],
    "pools": [{
        "name_prefix": "lab-adventure", "target": 60,
        "schedule": { "from": 1_795_856_400, "to": 1_795_863_600, "target_available": 60, "lead_minutes": null },
        "available": 60, "available_now": 9, "arriving": 3, "created": 48, "warming": 0, "total": 71, "max_total": 120,
        "time_to_available_sec": 260, "shortfall": null,
        "assumptions": ["A new sandbox is available after 260 s: the 95th percentile of the last 37."]
    }]
}))]
struct ForecastBody {
    /// The time of the forecast.
    at: UnixSeconds,
    /// When the pools were read.
    now: UnixSeconds,
    /// The assumptions about all pools, as sentences.
    assumptions: Vec<String>,
    /// The pools of the policy, by name prefix; empty if it has none.
    pools: Vec<PoolForecastBody>,
}

/// The forecast of a pool.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = PoolForecast)]
struct PoolForecastBody {
    /// The beginning of the names of its sandboxes.
    name_prefix: String,
    /// How many sandboxes should be available at that time.
    target: u32,
    /// The schedule that states the target; `null` if the pool itself does.
    schedule: Option<ScheduleBody>,
    /// How many sandboxes will be available.
    available: u64,
    /// Those of them that are available now.
    available_now: u64,
    /// Those of them that are not available yet, but exist or are being created.
    arriving: u64,
    /// Those of them that refill has yet to create.
    created: u64,
    /// How many sandboxes will not be usable yet.
    warming: u64,
    /// How many sandboxes there will be, in any status but `stale`.
    total: u64,
    /// How many there may be; `null` without a maximum.
    max_total: Option<u32>,
    /// How long a new sandbox takes until it is available; `null` if nothing creates any in this pool.
    time_to_available_sec: Option<u64>,
    /// Why the target will not be reached by then; `null` if it will.
    shortfall: Option<ShortfallBody>,
    /// The assumptions about this pool, as sentences.
    assumptions: Vec<String>,
}

/// A period in which a pool has a target of its own.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = ScheduledTarget, example = json!({
    "from": 1_795_856_400, "to": 1_795_863_600, "target_available": 60, "lead_minutes": null
}))]
struct ScheduleBody {
    /// When it begins.
    from: UnixSeconds,
    /// When it ends.
    to: UnixSeconds,
    /// How many sandboxes should be available.
    target_available: u32,
    /// The lead that the schedule states; `null` if it states none.
    lead_minutes: Option<u64>,
}

/// A target that will not be reached in time.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Shortfall, example = json!({
    "missing": 12, "reached_at": 1_795_856_580,
    "reason": "12 are being created then: a new sandbox is expected to take 260 s."
}))]
struct ShortfallBody {
    /// How many sandboxes will be missing.
    missing: u64,
    /// Why.
    reason: String,
    /// When the target will be reached; `null` if not within a week.
    reached_at: Option<UnixSeconds>,
}

impl From<Forecast> for ForecastBody {
    fn from(forecast: Forecast) -> Self {
        Self {
            at: forecast.at,
            now: forecast.now,
            assumptions: forecast.assumptions,
            pools: forecast.pools.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<ExpectedPool> for PoolForecastBody {
    fn from(pool: ExpectedPool) -> Self {
        let forecast = pool.forecast;
        Self {
            name_prefix: pool.name_prefix.to_string(),
            target: forecast.target,
            schedule: forecast.schedule.map(Into::into),
            available: forecast.available,
            available_now: pool.available_now,
            arriving: forecast.arriving,
            created: forecast.created,
            warming: forecast.warming,
            total: forecast.total,
            max_total: pool.max_total,
            time_to_available_sec: pool.time_to_available.map(|time| time.as_secs()),
            shortfall: forecast.shortfall.map(Into::into),
            assumptions: pool.assumptions,
        }
    }
}

impl From<ScheduledTarget> for ScheduleBody {
    fn from(schedule: ScheduledTarget) -> Self {
        Self {
            from: schedule.from,
            to: schedule.to,
            target_available: schedule.target_available,
            lead_minutes: schedule.lead.map(|lead| lead.as_secs() / 60),
        }
    }
}

impl From<Shortfall> for ShortfallBody {
    fn from(shortfall: Shortfall) -> Self {
        Self {
            missing: shortfall.missing,
            reason: shortfall.reason,
            reached_at: shortfall.reached_at,
        }
    }
}

/// Get the forecast of the pools
///
/// How many sandboxes each pool of the policy will have available at a time, from what is available now, what is being
/// created, what refill will create until then for targets and schedules, and what deletions make room for. Every
/// assumption is a part of the answer; above all, that no sandbox is allocated before.
#[utoipa::path(
    get,
    path = "/admin/forecast",
    tag = "Admin",
    params(ForecastParams),
    responses((status = 200, description = "The forecast", body = ForecastBody), ForecastErrors),
    security(("viewer_token" = [])),
)]
async fn get_forecast(
    State(state): State<AppState>,
    _: Viewer,
    ApiQuery(ForecastParams { at }): ApiQuery<ForecastParams>,
) -> Result<Json<ForecastBody>, ApiError> {
    let invalid = |message| ApiError::new(ErrorCode::InvalidParameter, message);
    let at = at.ok_or_else(|| {
        invalid(
            "at is missing; it takes a date and time with an offset, such as 2026-11-28T10:00:00Z, or Unix seconds.",
        )
    })?;
    let at = parse_time(&at).ok_or_else(|| {
        invalid(
            "at takes a date and time with an offset, such as 2026-11-28T10:00:00Z, or Unix seconds.",
        )
    })?;
    let forecast = state.monitor.forecast(at).await?;
    Ok(Json(forecast.into()))
}

/// Parses a time of RFC 3339, or Unix seconds. A `+` that was not escaped arrives as a space.
fn parse_time(text: &str) -> Option<UnixSeconds> {
    if let Ok(seconds) = text.parse() {
        return Some(UnixSeconds(seconds));
    }
    let unescaped = || {
        let (time, offset) = text.rsplit_once(' ')?;
        format!("{time}+{offset}").parse().ok()
    };
    let timestamp: Timestamp = text.parse().ok().or_else(unescaped)?;
    Some(UnixSeconds(timestamp.as_second()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn time_has_an_offset_or_is_a_number_of_seconds() {
        for text in [
            "1795856400",
            "2026-11-28T09:00:00Z",
            "2026-11-28T10:00:00+01:00",
            "2026-11-28T10:00:00 01:00",
            "2026-11-28 04:30:00-04:30",
            "2026-11-28 10:00:00 01:00",
            "2026-11-28T09:00:00.999Z",
        ] {
            let time = parse_time(text);
            assert_eq!(time, Some(UnixSeconds(1_795_856_400)), "{text}");
        }
        for text in [
            "",
            "tomorrow",
            "2026-11-28",
            "2026-11-28T10:00:00",
            "2026-11-28 10:00:00",
            "1795856400.5",
            "1e9",
            "9223372036854775808",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text in prop_oneof![crate::arbitrary::text(), crate::arbitrary::number()]) {
            parse_time(&text);
        }
    }
}
