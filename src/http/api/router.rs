//! The routes and the order of the layers.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    http::header,
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::{Config as SwaggerConfig, SwaggerUi};

use super::{admin, allocations, health, jobs, metrics, niosxaas, openapi, overview, sandboxes};
use crate::http::{
    AppState, dashboard,
    error::{ApiError, ErrorCode},
    middleware::{
        admission::{self, Admission},
        body, cors,
        overload::InFlightLimit,
        rate_limit::{self, RateLimits},
        request_log::{self, RequestLog},
        security_headers,
    },
    request_context,
};

/// What answers every request, and its description.
///
/// Layers, from the outside: the log, headers for browsers, the limit of the address, panics caught; then, on the routes
/// that take a token: admission and, jobs excepted, the bound of the time. They are few, and put on at once: axum boxes
/// and copies a router's service for each `layer`, in every request.
pub(crate) fn build(state: AppState) -> (Router, Document) {
    let limits = RateLimits::new(&state.edge, state.metrics.clone());
    let timed = OpenApiRouter::new()
        .routes(routes!(allocations::allocate))
        .routes(routes!(sandboxes::list_sandboxes))
        .routes(routes!(sandboxes::get_sandbox))
        .routes(routes!(sandboxes::mark_for_deletion))
        .routes(routes!(admin::stats))
        .routes(routes!(admin::list_all))
        .routes(routes!(overview::overview))
        .routes(routes!(overview::samples))
        .routes(routes!(niosxaas::niosxaas))
        .routes(routes!(jobs::list_runs))
        .routes(routes!(jobs::get_run))
        .layer(from_fn_with_state(body::REQUEST_TIMEOUT, body::limit_time));
    let protected = timed
        .routes(routes!(jobs::sync))
        .routes(routes!(jobs::cleanup))
        .routes(routes!(jobs::auto_expire))
        .routes(routes!(jobs::auto_delete_stale))
        .routes(routes!(jobs::bulk_delete))
        .layer(from_fn_with_state(
            Arc::new(Admission {
                auth: state.auth.clone(),
                limits: limits.clone(),
                body_timeout: body::BODY_TIMEOUT,
                in_flight: InFlightLimit::new(state.edge.max_in_flight, state.metrics.clone()),
            }),
            admission::admit,
        ));
    let mut open = OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(health::service))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz));
    if state.serves_metrics {
        open = open.routes(routes!(metrics::metrics));
    }
    let base_path = state.base_path.clone();
    let (edge, instruments) = (Arc::clone(&state.edge), state.metrics.clone());
    let all = if base_path.is_empty() {
        open.merge(protected)
    } else {
        open.nest(&base_path, protected)
    };
    let (router, mut document) = all.with_state(state).split_for_parts();
    openapi::complete(&mut document);
    let actions = openapi::actions(&mut document);
    let document_path = format!("{base_path}/openapi.json");
    let swagger = SwaggerUi::new(format!("{base_path}/docs")).config(
        SwaggerConfig::new([document_path.clone()])
            .try_it_out_enabled(true)
            .persist_authorization(false),
    );
    let request_log = RequestLog {
        actions,
        metrics: instruments,
        trusted_hops: edge.trusted_hops,
    };
    // Made once: it is large, and anybody may ask for it.
    let text = Bytes::from(document.to_json().unwrap_or_default());
    let router = router.route(
        &document_path,
        get(async move || ([(header::CONTENT_TYPE, "application/json")], text)),
    );
    let router = router
        .merge(security_headers::relax_for_docs(swagger.into()))
        .merge(security_headers::relax_for_dashboard(dashboard::router(
            &base_path,
        )))
        .fallback(async || ApiError::from(ErrorCode::NotFound))
        .method_not_allowed_fallback(async || ApiError::from(ErrorCode::MethodNotAllowed))
        .layer(
            ServiceBuilder::new()
                .layer(from_fn_with_state(request_log, request_log::log_request))
                .map_response(security_headers::secure)
                .option_layer(cors::allow_origins(&edge.cors))
                .layer(from_fn_with_state(limits, rate_limit::limit_addresses))
                .layer(CatchPanicLayer::custom(answer_panic)),
        );
    (router, document)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that CatchPanicLayer asks for"
)]
fn answer_panic(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(
        request_id = request_context::request_id(),
        panic = text,
        "a handler panicked"
    );
    ApiError::from(ErrorCode::InternalError).into_response()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, extract::Request, http::StatusCode, routing::get};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_500_in_the_envelope() {
        let router: Router = Router::new()
            .route("/", get(async || -> () { panic!("secret detail") }))
            .layer(CatchPanicLayer::custom(answer_panic));
        let answer = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX)
            .await
            .unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(
            text.contains("INTERNAL_ERROR") && !text.contains("secret detail"),
            "{text}"
        );
    }
}
