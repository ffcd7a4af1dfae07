//! The router: all routes, and the order of the layers.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    http::{HeaderValue, header},
    middleware::{from_fn_with_state, map_response},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use tower::ServiceBuilder;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config as SwaggerConfig, SwaggerUi};

use super::{
    actions, admin, allocations, audit, extension, forecast, health, jobs, leaks, me, metrics,
    niosxaas, openapi, overview, pauses, policy, replacement, runs, sandboxes, timeline, tokens,
};
use crate::{
    csp::CspMode,
    http::{
        AppState, base_path, dashboard,
        error::{ApiError, ErrorCode},
        headers::CSP_MODE,
        middleware::{
            admission::{self, Admission, RequiredRoles},
            body::{self, BodyReader, LargeBodyOperation},
            client::TrustedProxies,
            cors,
            overload::InFlightLimit,
            rate_limit::{self, RateLimits},
            request_log::{self, RequestLog},
            security_headers, trailing_slash,
        },
        request_context,
    },
};

/// Returns the router of the API's port: the API, its documentation and the dashboard.
///
/// Layers, from the outside: request log, security headers, CORS, rate limit of the address, panic handler; then, on
/// routes that require a token: admission and, except for jobs, the time limit. The layers are few and added in one
/// call, because for each `layer` axum boxes the service of a router and clones it in every request.
pub(crate) fn build(state: AppState) -> Router {
    let limits = RateLimits::new(&state.edge, state.auth.clone(), state.metrics.clone());
    let timed = OpenApiRouter::new()
        .merge(allocations::routes())
        .merge(sandboxes::routes())
        .merge(extension::routes())
        .merge(replacement::routes())
        .merge(admin::routes())
        .merge(audit::routes())
        .merge(timeline::routes())
        .merge(actions::routes())
        .merge(overview::routes())
        .merge(forecast::routes())
        .merge(leaks::routes())
        .merge(niosxaas::routes())
        .merge(pauses::routes())
        .merge(policy::routes())
        .merge(runs::routes())
        .merge(tokens::routes())
        .merge(me::routes())
        .layer(from_fn_with_state(body::REQUEST_TIMEOUT, body::limit_time));
    let mut protected = timed.merge(jobs::routes());
    let required = openapi::required_roles(protected.get_openapi_mut(), &state.base_path);
    let bodies = BodyReader::new(
        with_large_body(&required, &state.base_path),
        body::BODY_TIMEOUT,
    );
    let protected = protected.layer(from_fn_with_state(
        Arc::new(Admission {
            auth: state.auth.clone(),
            load_balancer: state.load_balancer.clone(),
            bodies,
            required,
            limits: limits.clone(),
            in_flight: InFlightLimit::new(state.edge.max_in_flight, state.metrics.clone()),
            refusals: Arc::clone(&state.refusals),
        }),
        admission::admit,
    ));
    let mut open = OpenApiRouter::with_openapi(openapi::base()).merge(health::routes());
    open = if state.serves_metrics {
        open.merge(metrics::routes())
    } else {
        open.route("/metrics", any(metrics::elsewhere))
    };
    let mark_simulated = (state.csp_mode == CspMode::Simulated).then(|| {
        let mode = HeaderValue::from_static(state.csp_mode.as_str());
        SetResponseHeaderLayer::overriding(CSP_MODE, mode)
    });
    let base_path = Arc::clone(&state.base_path);
    let (edge, instruments) = (Arc::clone(&state.edge), state.metrics.clone());
    let all = if base_path.is_empty() {
        open.merge(protected)
    } else {
        open.nest(&base_path, protected)
    };
    let (router, mut document) = all.with_state(state).split_for_parts();
    openapi::complete(&mut document, &base_path);
    let request_log = RequestLog {
        actions: openapi::actions(&mut document),
        metrics: instruments,
        proxies: TrustedProxies::new(edge.trusted_hops),
        base_path: Arc::clone(&base_path),
    };
    let document_path = format!("{base_path}/openapi.json");
    let docs_path = format!("{base_path}/docs");
    // Relative to the page: a proxy may strip the beginning of the path.
    let swagger = SwaggerUi::new(docs_path.clone()).config(
        SwaggerConfig::new(["../openapi.json"])
            .try_it_out_enabled(true)
            .persist_authorization(false),
    );
    let swagger = Router::from(swagger).layer(map_response(redirect_to_docs));
    // Serialised once: the document is large, and no token is required to read it.
    let text = document.to_json().unwrap_or_default();
    let text = Bytes::from(base_path::fill(&text, &base_path));
    let router = router.route(
        &document_path,
        get(async move || ([(header::CONTENT_TYPE, "application/json")], text)),
    );
    let router = router
        .merge(security_headers::for_docs(swagger))
        .merge(security_headers::for_dashboard(dashboard::router(
            &base_path,
        )))
        .fallback(async || ApiError::from(ErrorCode::NotFound))
        .method_not_allowed_fallback(async || ApiError::from(ErrorCode::MethodNotAllowed))
        .layer(
            ServiceBuilder::new()
                .layer(from_fn_with_state(request_log, request_log::log_request))
                .map_response(security_headers::add_to)
                .option_layer(mark_simulated)
                .option_layer(cors::allow_origins(&edge.cors))
                .layer(from_fn_with_state(limits, rate_limit::limit_addresses))
                .layer(CatchPanicLayer::custom(answer_panic)),
        );
    trailing_slash::trim(
        router,
        vec![format!("{docs_path}/"), dashboard::WITH_SLASH.to_owned()],
    )
}

/// Returns the operations whose body may be large: a policy document, or a list of allocations.
fn with_large_body(required: &RequiredRoles, base_path: &str) -> Vec<LargeBodyOperation> {
    let operations = policy::WITH_LARGE_BODY
        .into_iter()
        .chain(leaks::WITH_LARGE_BODY);
    let operations = operations.filter_map(|(method, path)| {
        let operation = (method, format!("{base_path}{path}"));
        let role = *required.get(&operation)?;
        let (method, route) = operation;
        Some(LargeBodyOperation {
            method,
            route,
            role,
        })
    });
    operations.collect()
}

/// Makes the redirect from the Swagger page's path to the one with a slash relative to it.
async fn redirect_to_docs(mut answer: Response) -> Response {
    if let Some(location) = answer.headers_mut().get_mut(header::LOCATION) {
        *location = HeaderValue::from_static("docs/");
    }
    answer
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "CatchPanicLayer requires this signature"
)]
fn answer_panic(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(
        request_id = request_context::request_id(),
        panic = text,
        "handler panicked"
    );
    ApiError::from(ErrorCode::InternalError).into_response()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, extract::Request, http::StatusCode, routing::get};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn panic_is_answered_with_500_in_the_error_shape() {
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
