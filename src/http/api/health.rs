//! For load balancers, and for people who wonder what answers here.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    clock::UnixSeconds,
    http::{AppState, request_context::Outcome},
};

/// The broker is up.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "status": "healthy", "timestamp": 1_774_000_000 }))]
pub(crate) struct HealthBody {
    /// `healthy`.
    pub status: &'static str,
    /// Now, in Unix seconds.
    pub timestamp: UnixSeconds,
}

/// Whether the broker can do its work.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "status": "ready", "timestamp": 1_774_000_000, "checks": { "dynamodb": "ok" } }))]
pub(crate) struct ReadyBody {
    /// `ready` or `not_ready`.
    pub status: &'static str,
    /// Now, in Unix seconds.
    pub timestamp: UnixSeconds,
    /// What was checked: `ok`, or what is wrong.
    pub checks: BTreeMap<&'static str, String>,
}

/// What answers here.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "service": "sandbox-broker", "version": "0.1.0", "docs": "/v1/docs" }))]
pub(crate) struct ServiceBody {
    /// `sandbox-broker`.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The path of the Swagger page.
    pub docs: String,
}

/// Is the broker up?
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "Health",
    responses((status = 200, description = "It is", body = HealthBody)),
)]
pub(super) async fn healthz(State(state): State<AppState>) -> Json<HealthBody> {
    Json(HealthBody {
        status: "healthy",
        timestamp: state.clock.now(),
    })
}

/// Can the broker do its work?
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Health",
    responses(
        (status = 200, description = "It can", body = ReadyBody),
        (status = 503, description = "It cannot; `checks` says why", body = ReadyBody,
         example = json!({
             "status": "not_ready", "timestamp": 1_774_000_000,
             "checks": { "dynamodb": "GetItem: the database is unavailable" }
         })),
    ),
)]
pub(super) async fn readyz(State(state): State<AppState>) -> Response {
    let check = Arc::clone(&state.readiness).check().await;
    let is_ready = check.is_ok();
    let (code, status) = if is_ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    let checks = BTreeMap::from([("dynamodb", check.err().unwrap_or_else(|| "ok".to_owned()))]);
    let body = ReadyBody {
        status,
        timestamp: state.clock.now(),
        checks,
    };
    let outcome = if is_ready { "success" } else { status };
    (code, Extension(Outcome(outcome)), Json(body)).into_response()
}

/// What answers here?
#[utoipa::path(
    get,
    path = "/",
    tag = "Health",
    responses((status = 200, description = "Its name, version and documentation", body = ServiceBody)),
)]
pub(super) async fn service(State(state): State<AppState>) -> Json<ServiceBody> {
    Json(ServiceBody {
        service: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        docs: format!("{}/docs", state.base_path),
    })
}
