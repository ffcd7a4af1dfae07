//! Health of the broker, for load balancers, and its name and version.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    clock::UnixSeconds,
    http::{AppState, request_context::Outcome},
};

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(service))
        .routes(routes!(healthz))
        .routes(routes!(readyz))
}

/// The broker is up.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "status": "healthy", "timestamp": 1_774_000_000, "csp_mode": "live" }))]
pub(crate) struct HealthBody {
    /// Always `healthy`.
    pub status: &'static str,
    /// The current time, in Unix seconds.
    pub timestamp: UnixSeconds,
    /// `live`, or `simulated` if the accounts are made up.
    pub csp_mode: &'static str,
}

/// Whether the broker can serve requests.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "status": "ready", "timestamp": 1_774_000_000, "checks": { "dynamodb": "ok", "tables": "ok" } }))]
pub(crate) struct ReadyBody {
    /// `ready` or `not_ready`.
    pub status: &'static str,
    /// The current time, in Unix seconds.
    pub timestamp: UnixSeconds,
    /// The result of each check: `ok`, or the error. `dynamodb`: the companion table can be read. `tables`: both tables
    /// have the keys, indexes and TTL that the broker needs, compared at the start and every 10 minutes. `disk`: the
    /// embedded database can be written. `shutdown`: the broker is about to stop.
    pub checks: BTreeMap<&'static str, String>,
}

/// The service at this address.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "service": "sandbox-broker", "version": "0.1.0", "docs": "{base_path}/docs" }))]
pub(crate) struct ServiceBody {
    /// Always `sandbox-broker`.
    pub service: &'static str,
    /// The version of the broker.
    pub version: &'static str,
    /// The path of the Swagger page.
    pub docs: String,
}

/// Check that the broker is up
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "Health",
    responses((status = 200, description = "The broker is up", body = HealthBody)),
)]
async fn healthz(State(state): State<AppState>) -> Json<HealthBody> {
    Json(HealthBody {
        status: "healthy",
        timestamp: state.clock.now(),
        csp_mode: state.csp_mode.as_str(),
    })
}

/// Check that the broker can serve requests
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Health",
    responses(
        (status = 200, description = "The broker can serve requests", body = ReadyBody),
        (status = 503, description = "The broker cannot serve requests; `checks` has the reason", body = ReadyBody,
         example = json!({
             "status": "not_ready", "timestamp": 1_774_000_000,
             "checks": { "dynamodb": "GetItem: the database is unavailable", "tables": "ok" }
         })),
    ),
)]
async fn readyz(State(state): State<AppState>) -> Response {
    let checks = Arc::clone(&state.readiness).check().await;
    let is_ready = checks.iter().all(|(_, result)| result.is_ok());
    let (code, status) = if is_ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    let checks = checks
        .into_iter()
        .map(|(name, result)| (name, result.err().unwrap_or_else(|| "ok".to_owned())))
        .collect();
    let body = ReadyBody {
        status,
        timestamp: state.clock.now(),
        checks,
    };
    let outcome = if is_ready { "success" } else { status };
    (code, Extension(Outcome(outcome)), Json(body)).into_response()
}

/// Get the name and version of the service
#[utoipa::path(
    get,
    path = "/",
    tag = "Health",
    responses((status = 200, description = "The name, the version and the path of the documentation", body = ServiceBody)),
)]
async fn service(State(state): State<AppState>) -> Json<ServiceBody> {
    Json(ServiceBody {
        service: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        docs: format!("{}/docs", state.base_path),
    })
}
