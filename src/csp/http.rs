//! Parts that the HTTP calls of the CSP and NIOSXaaS clients share.

use std::time::Duration;

use reqwest::{Response, StatusCode, header};
use serde::de::IgnoredAny;
use tokio::time::Instant;
use tracing::Instrument;

use super::{CspError, error::Credentials, json::repaired};
use crate::{
    telemetry::{
        TRACE,
        metrics::{Metrics, observe_call},
    },
    tls,
};

/// The largest answer that is read, in bytes: a list of some 200,000 accounts.
const MAX_ANSWER: usize = 64 << 20;
/// The longest `Retry-After` that is respected. A longer one is considered a mistake.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);
/// The time-out of a call as a whole.
const CALL_TIMEOUT: Duration = Duration::from_mins(2);

/// Creates an HTTP client with time-outs, which follows no redirects.
///
/// # Errors
/// [`CspError::Unavailable`] if TLS cannot be initialized.
pub(super) fn http_client(
    base_url: &str,
    connect: Duration,
    read: Duration,
) -> Result<reqwest::Client, CspError> {
    Ok(tls::http_client(base_url)
        .connect_timeout(connect)
        .read_timeout(read)
        .timeout(CALL_TIMEOUT)
        .build()?)
}

/// Returns the last part of a resource id, by which the API names the resource.
///
/// # Errors
/// [`CspError::InvalidId`] unless the part is a single, plain segment of a URL path.
pub fn uuid_of(resource: &str) -> Result<&str, CspError> {
    let uuid = resource.rsplit('/').next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if matches!(uuid, "" | "." | "..") || !uuid.bytes().all(is_plain) {
        return Err(CspError::InvalidId {
            external_id: resource.to_owned(),
        });
    }
    Ok(uuid)
}

/// Counts, times and traces `call`.
pub(super) async fn observed<T>(
    metrics: &Metrics,
    operation: &'static str,
    call: impl Future<Output = Result<T, CspError>>,
) -> Result<T, CspError> {
    let span = tracing::info_span!(
        target: TRACE, "csp", otel.name = operation, otel.kind = "client", outcome = tracing::field::Empty
    );
    let started = Instant::now();
    let result = call.instrument(span.clone()).await;
    let outcome = result.as_ref().err().map_or("success", CspError::outcome);
    span.record("outcome", outcome);
    metrics
        .csp_calls
        .with_label_values(&[operation, outcome])
        .inc();
    observe_call(
        &metrics.csp_call_duration,
        operation,
        outcome,
        started.elapsed(),
    );
    result
}

/// Returns whether the answer says that the resource does not exist, or no longer.
pub(super) fn is_gone(answer: &Response) -> bool {
    matches!(answer.status(), StatusCode::NOT_FOUND | StatusCode::GONE)
}

/// Returns `answer` if its status code is a success.
///
/// # Errors
/// [`CspError`] by status code. `credentials` are those of the request.
pub(super) fn checked(answer: Response, credentials: Credentials) -> Result<Response, CspError> {
    let status = answer.status();
    match status {
        _ if status.is_success() => Ok(answer),
        StatusCode::UNAUTHORIZED => Err(CspError::Unauthorized {
            status: status.as_u16(),
            credentials,
        }),
        StatusCode::FORBIDDEN => Err(CspError::Forbidden),
        StatusCode::CONFLICT | StatusCode::LOCKED | StatusCode::TOO_EARLY => {
            Err(CspError::Conflict {
                status: status.as_u16(),
            })
        }
        StatusCode::TOO_MANY_REQUESTS => Err(CspError::RateLimited {
            retry_after: retry_after(&answer),
        }),
        StatusCode::REQUEST_TIMEOUT => Err(CspError::unavailable("HTTP 408")),
        _ if status.is_server_error() || status.is_redirection() => {
            Err(CspError::unavailable(format!("HTTP {}", status.as_u16())))
        }
        _ => Err(CspError::Rejected {
            status: status.as_u16(),
        }),
    }
}

/// Returns the `Retry-After` header, bounded. CSP sends seconds, never a date.
fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim()
        .parse()
        .ok()
        .map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// Reads the body of an answer, up to [`MAX_ANSWER`] bytes.
async fn read_body(mut answer: Response) -> Result<Vec<u8>, CspError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(CspError::unavailable(format!(
                "the answer is larger than {MAX_ANSWER} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads an answer that is JSON.
///
/// # Errors
/// [`CspError::Unavailable`] if `parse` fails.
pub(super) async fn read_json<T>(
    answer: Response,
    parse: impl FnOnce(&str) -> serde_json::Result<T>,
) -> Result<T, CspError> {
    // The text of a fault has values of the answer in it, such as the token of a session, of any length.
    parse(&repaired(read_body(answer).await?)).map_err(|fault| {
        CspError::unavailable(format!(
            "the answer is not JSON of the expected form (line {}, column {})",
            fault.line(),
            fault.column()
        ))
    })
}

/// Reads the answer to a deletion that succeeded: nothing, or any JSON.
///
/// # Errors
/// [`CspError::Unavailable`] if the answer is a web page, which comes from a proxy in front of CSP: nothing was deleted.
pub(super) async fn read_deletion(answer: Response) -> Result<(), CspError> {
    read_json(answer, |body| match body.trim() {
        "" => Ok(()),
        body => serde_json::from_str(body).map(|IgnoredAny| ()),
    })
    .await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    #[tokio::test]
    async fn error_of_an_answer_of_another_form_shows_nothing_of_it() {
        for value in [
            "\"secret-token\"",
            r#"{"secret-token": 1, "count": "secret-token"}"#,
        ] {
            let answer = Response::from(axum::http::Response::new(value.to_owned()));
            let read = read_json(answer, |body| serde_json::from_str::<Vec<u8>>(body)).await;
            let error = crate::telemetry::chain(&read.unwrap_err());
            assert!(
                error.contains("line 1, column") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn accepted_uuid_stays_one_path_segment(resource in prop_oneof![crate::arbitrary::text(), "[a-z/.%?#-]{0,20}"]) {
            if let Ok(uuid) = uuid_of(&resource) {
                let path = format!("/v2/sandbox/accounts/{uuid}");
                let url = reqwest::Url::parse(&format!("http://csp{path}")).unwrap();
                prop_assert_eq!(url.path(), path);
                prop_assert!(resource.ends_with(uuid) && !uuid.is_empty());
            }
        }

        #[test]
        fn any_status_is_classified_and_its_retry_after_is_bounded(
            status in 100_u16..1000,
            after in proptest::option::of(prop_oneof![
                crate::arbitrary::header_value(),
                any::<u64>().prop_map(header::HeaderValue::from),
            ]),
        ) {
            let mut answer = axum::http::Response::new("");
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            answer.headers_mut().extend(after.map(|after| (header::RETRY_AFTER, after)));
            match checked(Response::from(answer), Credentials::ApiToken) {
                Ok(_) => prop_assert!((200..300).contains(&status)),
                Err(error) => {
                    prop_assert!(!(200..300).contains(&status));
                    prop_assert!(error.retry_after().is_none_or(|pause| pause <= MAX_RETRY_AFTER));
                    let is_outage = matches!(status, 300..400 | 408 | 429 | 500..600);
                    prop_assert_eq!(error.is_outage(), is_outage, "{}", status);
                    let is_transient = is_outage || matches!(status, 409 | 423 | 425);
                    prop_assert_eq!(error.is_transient(), is_transient, "{}", status);
                    let is_unauthorized = matches!(error, CspError::Unauthorized { .. });
                    prop_assert_eq!(is_unauthorized, status == 401, "{}", status);
                }
            }
        }
    }
}
