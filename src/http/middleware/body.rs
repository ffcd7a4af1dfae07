//! Limits of a request: the size of its body, the time to send it, the time to answer.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, HttpBody as _, to_bytes},
    extract::{MatchedPath, Request, State},
    http::{Extensions, Method},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    domain::{Principal, Role},
    http::error::{ApiError, ErrorCode},
    store::StoreError,
};

/// The largest request body, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// The largest body of the operations whose body may be large, in bytes.
const MAX_LARGE_BODY: usize = 256 * 1024;
/// The number of such requests at a time, for each of these operations, which bounds their memory. Further ones wait. Requests
/// that viewers may send do not delay those of admins.
const LARGE_BODIES: usize = 8;
/// The longest time that a client may take to send its body.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time that a request may take. Requests that start jobs have no such limit.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the body before the handler runs, so that the limit of its size holds whether or not the client declares it.
#[derive(Debug)]
pub(crate) struct BodyReader {
    with_large_body: Vec<(LargeBodyOperation, Semaphore)>,
    timeout: Duration,
}

/// An operation whose body may be large: a policy document, or a list of allocations.
#[derive(Debug)]
pub(crate) struct LargeBodyOperation {
    pub(crate) method: Method,
    pub(crate) route: String,
    /// The lowest role that suffices.
    pub(crate) role: Role,
}

/// A body, with the permit for its memory if it may be large.
#[derive(Debug, Default)]
pub(super) struct ReadBody<'a> {
    pub(super) bytes: Bytes,
    _permit: Option<SemaphorePermit<'a>>,
}

impl BodyReader {
    /// Creates the reader.
    #[must_use]
    pub(crate) fn new(with_large_body: Vec<LargeBodyOperation>, timeout: Duration) -> Self {
        let with_large_body = with_large_body.into_iter();
        Self {
            with_large_body: with_large_body
                .map(|operation| (operation, Semaphore::new(LARGE_BODIES)))
                .collect(),
            timeout,
        }
    }

    /// Returns the request, and its body again. The body is dropped after the answer.
    ///
    /// # Errors
    /// [`ErrorCode::PayloadTooLarge`], [`ErrorCode::RequestTimeout`].
    pub(super) async fn read(&self, request: Request) -> Result<(Request, ReadBody<'_>), ApiError> {
        if request.body().is_end_stream() {
            return Ok((request, ReadBody::default()));
        }
        let operation = self.large_body_operation(&request);
        let (parts, body) = request.into_parts();
        let read = match operation {
            Some((operation, permits)) if operation.is_permitted(&parts.extensions) => {
                timeout(self.timeout, read_large(body, permits)).await
            }
            Some(_) => timeout(self.timeout, discard(body)).await,
            None => timeout(self.timeout, read_small(body)).await,
        };
        let body = read.map_err(|_| slow_body(self.timeout))??;
        let request = Request::from_parts(parts, Body::from(body.bytes.clone()));
        Ok((request, body))
    }

    fn large_body_operation(&self, request: &Request) -> Option<&(LargeBodyOperation, Semaphore)> {
        let route: &MatchedPath = request.extensions().get()?;
        let mut operations = self.with_large_body.iter();
        operations.find(|(operation, _)| {
            operation.method == request.method() && operation.route == route.as_str()
        })
    }
}

impl LargeBodyOperation {
    fn is_permitted(&self, extensions: &Extensions) -> bool {
        let principal: Option<&Principal> = extensions.get();
        principal.is_some_and(|principal| principal.roles.include(self.role))
    }
}

async fn read_large(body: Body, permits: &Semaphore) -> Result<ReadBody<'_>, ApiError> {
    // Fails only for a closed semaphore, and this one is never closed.
    let permit = permits.acquire().await.ok();
    Ok(ReadBody {
        bytes: read_up_to(MAX_LARGE_BODY, body).await?,
        _permit: permit,
    })
}

/// Reads a large body of a principal that the handler refuses, so that it receives the answer, without the memory for it.
async fn discard(body: Body) -> Result<ReadBody<'static>, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut size: usize = 0;
    while let Some(chunk) = chunks.next().await {
        let length = chunk.map_or(usize::MAX, |chunk| chunk.len());
        size = size.saturating_add(length);
        if size > MAX_LARGE_BODY {
            return Err(too_large(MAX_LARGE_BODY));
        }
    }
    Ok(ReadBody::default())
}

async fn read_small(body: Body) -> Result<ReadBody<'static>, ApiError> {
    Ok(ReadBody {
        bytes: read_up_to(MAX_BODY, body).await?,
        _permit: None,
    })
}

async fn read_up_to(max: usize, body: Body) -> Result<Bytes, ApiError> {
    to_bytes(body, max).await.map_err(|_| too_large(max))
}

fn too_large(max: usize) -> ApiError {
    ApiError::new(
        ErrorCode::PayloadTooLarge,
        format!("The body is larger than {max} bytes, or incomplete."),
    )
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
    use std::sync::Arc;

    use axum::{
        Router,
        http::StatusCode,
        middleware::from_fn_with_state,
        routing::{get, put},
    };
    use futures_util::future::join_all;
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

    fn endless() -> Body {
        Body::from_stream(futures_util::stream::pending::<Result<&[u8], std::io::Error>>())
    }

    #[tokio::test]
    async fn endless_body_is_rejected() {
        let reader = BodyReader::new(Vec::new(), SHORT);
        let error = reader.read(Request::new(endless())).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::RequestTimeout);
    }

    /// Returns a router that takes a large body from admins at `/document`, and from viewers at `/check`.
    fn with_large_body(limit: Duration) -> Router {
        let operations = [("/document", Role::Admin), ("/check", Role::Viewer)];
        let operations = operations.map(|(route, role)| LargeBodyOperation {
            method: Method::PUT,
            route: route.to_owned(),
            role,
        });
        let reader = Arc::new(BodyReader::new(operations.into(), limit));
        let read = async |State(reader): State<Arc<BodyReader>>, request: Request, next: Next| {
            match reader.read(request).await {
                Ok((request, _body)) => next.run(request).await,
                Err(error) => error.into_response(),
            }
        };
        let length = async |body: Bytes| body.len().to_string();
        Router::new()
            .route("/document", put(length))
            .route("/check", put(length))
            .route("/other", put(length))
            .layer(from_fn_with_state(reader, read))
    }

    async fn send(router: &Router, path: &str, role: Role, body: Body) -> (StatusCode, String) {
        let mut request = Request::put(path).body(body).unwrap();
        let principal = Principal::new("test", role.into());
        request.extensions_mut().insert(principal);
        let answer = router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn large_body_is_accepted_where_the_operation_permits_it() {
        let router = with_large_body(BODY_TIMEOUT);
        for (path, role, bytes, expected) in [
            ("/document", Role::Admin, MAX_LARGE_BODY, StatusCode::OK),
            (
                "/document",
                Role::Admin,
                MAX_LARGE_BODY + 1,
                StatusCode::PAYLOAD_TOO_LARGE,
            ),
            ("/other", Role::Admin, MAX_BODY, StatusCode::OK),
            (
                "/other",
                Role::Admin,
                MAX_BODY + 1,
                StatusCode::PAYLOAD_TOO_LARGE,
            ),
        ] {
            let (status, text) = send(&router, path, role, vec![b' '; bytes].into()).await;
            assert_eq!(status, expected, "{path} {bytes}");
            let shown = if status == StatusCode::OK {
                bytes
            } else {
                bytes - 1
            };
            assert!(text.contains(&shown.to_string()), "{text}");
        }
        let refused = send(
            &router,
            "/document",
            Role::Viewer,
            vec![b' '; MAX_LARGE_BODY].into(),
        );
        let not_read = (StatusCode::OK, "0".to_owned());
        assert_eq!(refused.await, not_read, "its handler refuses it");
    }

    #[tokio::test]
    async fn slow_large_bodies_end_in_time_and_delay_no_other_body() {
        let router = with_large_body(Duration::from_millis(200));
        let slow = (0..=LARGE_BODIES).map(|_| send(&router, "/document", Role::Admin, endless()));
        let paths = ["/other", "/check"].into_iter();
        let others = paths.map(|path| send(&router, path, Role::Admin, "{}".into()));
        let (slow, others) = tokio::join!(join_all(slow), join_all(others));
        for (status, text) in slow {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(text.contains("REQUEST_TIMEOUT"), "{text}");
        }
        assert!(others.iter().all(|(status, _)| *status == StatusCode::OK));
        let (status, _) = send(&router, "/document", Role::Admin, "{}".into()).await;
        assert_eq!(status, StatusCode::OK, "their permits are free again");
    }
}
