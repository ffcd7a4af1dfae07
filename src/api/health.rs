//! For load balancers, and for people who wonder what answers here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::{sync::Mutex, time::Instant};
use utoipa::ToSchema;

use crate::{app::AppState, clock::UnixSeconds, middleware::request_log, store::PoolStore};

/// How long a check answers for others.
const FRESH_FOR: Duration = Duration::from_secs(1);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The broker is up.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "status": "healthy", "timestamp": 1_774_000_000 }))]
pub struct HealthBody {
    /// `healthy`.
    pub status: &'static str,
    /// Now, in Unix seconds.
    pub timestamp: UnixSeconds,
}

/// Whether the broker can do its work.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({ "status": "ready", "timestamp": 1_774_000_000, "checks": { "dynamodb": "ok" } }))]
pub struct ReadyBody {
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
pub struct ServiceBody {
    /// `sandbox-broker`.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The path of the Swagger page.
    pub docs: String,
}

/// Checks the database at most once a second, however often it is asked.
#[derive(Debug)]
pub struct Readiness {
    store: PoolStore,
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Readiness {
    /// A check of `store`.
    #[must_use]
    pub fn new(store: PoolStore) -> Self {
        Self {
            store,
            last: Mutex::default(),
        }
    }

    async fn check(self: Arc<Self>) -> Result<(), String> {
        let mut last = self.last.lock().await;
        if let Some((at, result)) = &*last
            && at.elapsed() < FRESH_FOR
        {
            return result.clone();
        }
        let result = match tokio::time::timeout(CHECK_TIMEOUT, self.store.schema_version()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", CHECK_TIMEOUT.as_secs())),
        };
        *last = Some((Instant::now(), result.clone()));
        result
    }
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
    let (code, status) = if check.is_ok() {
        (StatusCode::OK, "ready")
    } else {
        request_log::note_outcome("not_ready");
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    let checks = BTreeMap::from([("dynamodb", check.err().unwrap_or_else(|| "ok".to_owned()))]);
    (
        code,
        Json(ReadyBody {
            status,
            timestamp: state.clock.now(),
            checks,
        }),
    )
        .into_response()
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
