//! Limits of a request: the size of its body, the time to send it, the time to answer.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, HttpBody as _, to_bytes},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::timeout;

use crate::{
    http::error::{ApiError, ErrorCode},
    store::StoreError,
};

/// The largest request body, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// The longest time that a client may take to send its body.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time that a request may take. Requests that start jobs have no such limit.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the body before the handler runs, so that the limit of its size holds whether or not the client declares it.
/// Returns the request, and its body again.
///
/// # Errors
/// [`ErrorCode::PayloadTooLarge`], [`ErrorCode::RequestTimeout`].
pub(crate) async fn read(request: Request, limit: Duration) -> Result<(Request, Bytes), ApiError> {
    if request.body().is_end_stream() {
        return Ok((request, Bytes::new()));
    }
    let (parts, body) = request.into_parts();
    let read = timeout(limit, to_bytes(body, MAX_BODY));
    let bytes = read
        .await
        .map_err(|_| slow_body(limit))?
        .map_err(|_| ErrorCode::PayloadTooLarge)?;
    let request = Request::from_parts(parts, Body::from(bytes.clone()));
    Ok((request, bytes))
}

fn slow_body(limit: Duration) -> ApiError {
    let seconds = limit.as_secs();
    ApiError::new(
        ErrorCode::RequestTimeout,
        format!("The body of the request did not arrive within {seconds} s; repeat the request."),
    )
}

/// The layer that answers with [`ErrorCode::StoreUnavailable`] when a request takes too long: its handler waits only
/// for the database.
pub(crate) async fn limit_time(
    State(limit): State<Duration>,
    request: Request,
    next: Next,
) -> Response {
    timeout(limit, next.run(request))
        .await
        .unwrap_or_else(|_| ApiError::from(StoreError::timed_out("request")).into_response())
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, middleware::from_fn_with_state, routing::get};
    use tower::ServiceExt;

    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn handler_that_never_returns_is_cancelled() {
        let router = Router::new()
            .route("/", get(async || std::future::pending::<()>().await))
            .layer(from_fn_with_state(SHORT, limit_time));
        let answer = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = to_bytes(answer.into_body(), MAX_BODY).await.unwrap();
        let text = String::from_utf8_lossy(&body);
        assert!(text.contains("STORE_UNAVAILABLE"), "{text}");
    }

    #[tokio::test]
    async fn endless_body_is_rejected() {
        let endless =
            Body::from_stream(futures_util::stream::pending::<Result<&[u8], std::io::Error>>());
        let error = read(Request::new(endless), SHORT).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::RequestTimeout);
    }
}
