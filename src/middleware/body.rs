//! Bounds what a request may send and how long it may take.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::api::error::{ApiError, ErrorCode};

/// The largest request body, in bytes. No endpoint needs one at all.
pub const MAX_BODY: usize = 16 * 1024;
/// The longest that a request may take, jobs excepted.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the body before the handler runs, so that its size is known whether or not the client declares it.
pub async fn limit_body(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match to_bytes(body, MAX_BODY).await {
        Ok(bytes) => {
            next.run(Request::from_parts(parts, Body::from(bytes)))
                .await
        }
        Err(_) => {
            let message = format!(
                "The body is larger than {MAX_BODY} bytes, or broke off; no endpoint needs one."
            );
            ApiError::new(ErrorCode::PayloadTooLarge, message).into_response()
        }
    }
}

/// Ends a request that takes too long.
pub async fn limit_time(request: Request, next: Next) -> Response {
    tokio::time::timeout(REQUEST_TIMEOUT, next.run(request))
        .await
        .unwrap_or_else(|_| {
            let message = format!(
                "The request was not done within {} s; repeat it.",
                REQUEST_TIMEOUT.as_secs()
            );
            ApiError::new(ErrorCode::RequestTimeout, message).into_response()
        })
}
