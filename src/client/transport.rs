//! Sending of calls, with retries.

use std::time::Duration;

use reqwest::{
    Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Answer, Body, Call, ClientError, error::is_transient};
use crate::{
    backoff::{Backoff, BackoffConfig},
    tls,
};

/// The time-out of a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time-out of a request. A broker answers within 30 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// The pauses between attempts.
const BACKOFF: BackoffConfig = BackoffConfig {
    base: Duration::from_millis(500),
    max: Duration::from_secs(15),
};

/// A client of one broker with one token.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    authorization: HeaderValue,
    wait: Duration,
    backoff: Backoff,
    on_retry: fn(&ClientError, Duration),
}

impl Client {
    /// Creates a client that repeats calls for `wait` while they may still succeed, and calls `on_retry` before each pause.
    ///
    /// # Errors
    /// [`ClientError::Usage`] if a connection to `url` cannot be made from this machine.
    pub fn new(
        url: Url,
        token: &SecretString,
        wait: Duration,
        on_retry: fn(&ClientError, Duration),
    ) -> Result<Self, ClientError> {
        let usage = |reason: String| ClientError::Usage(reason);
        tls::check_authorities(url.as_str()).map_err(|error| usage(error.to_string()))?;
        let http = tls::http_client(url.as_str())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(|error| usage(chain(&error)))?;
        let text = format!("Bearer {}", token.expose_secret());
        let mut authorization = HeaderValue::try_from(text)
            .map_err(|_| usage("the token cannot be sent".to_owned()))?;
        authorization.set_sensitive(true);
        Ok(Self {
            http,
            url,
            authorization,
            wait,
            backoff: Backoff::new(BACKOFF, rand::random()),
            on_retry,
        })
    }

    /// Sends a call until it succeeds, fails for good, or the time to wait is over.
    ///
    /// # Errors
    /// [`ClientError`] of the last attempt.
    pub async fn send(&self, call: &Call) -> Result<Answer, ClientError> {
        self.send_within(call, self.wait).await
    }

    /// Sends a call as [`Self::send`] does, but for `wait`.
    ///
    /// # Errors
    /// [`ClientError`] of the last attempt.
    pub async fn send_within(&self, call: &Call, wait: Duration) -> Result<Answer, ClientError> {
        let end = Instant::now() + wait;
        let mut attempt = 0;
        loop {
            let error = match self.attempt(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = self
                .backoff
                .pause(attempt)
                .max(error.retry_after().unwrap_or_default());
            if !error.is_retried(call.awaited) || Instant::now() + pause > end {
                return Err(error);
            }
            (self.on_retry)(&error, pause);
            sleep(pause).await;
            attempt = attempt.saturating_add(1);
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Answer, ClientError> {
        let url = self.url_of(call)?;
        let shown = url.to_string();
        let unreachable = |error: &reqwest::Error| ClientError::Unreachable {
            url: shown.clone(),
            cause: chain(error),
        };
        let request = self
            .http
            .request(call.method.clone(), url)
            .headers(call.headers.clone())
            .header(AUTHORIZATION, self.authorization.clone());
        let request = match &call.body {
            Body::None => request,
            Body::Json(value) => request.json(value),
            Body::Text { media_type, text } => {
                request.header(CONTENT_TYPE, *media_type).body(text.clone())
            }
        };
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = read(response, &shown)
            .await?
            .map_err(|error| unreachable(&error))?;
        if status.is_success() {
            return Ok(Answer {
                status,
                headers,
                text,
                url: shown,
            });
        }
        Err(rejection(status, &headers, &text, shown))
    }

    /// Returns the URL of a call.
    fn url_of(&self, call: &Call) -> Result<Url, ClientError> {
        let mut url = self.url.clone();
        for segment in &call.segments {
            // These would change the path.
            if matches!(segment.as_str(), "" | "." | "..") {
                return Err(ClientError::Usage(format!("{segment:?} is not an id")));
            }
        }
        url.path_segments_mut()
            .map_err(|()| ClientError::Usage("the broker's URL has no path".to_owned()))?
            .pop_if_empty()
            .extend(&call.segments);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        Ok(url)
    }
}

/// Reads the body as text.
async fn read(
    mut response: Response,
    url: &str,
) -> Result<Result<String, reqwest::Error>, ClientError> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= MAX_ANSWER => {
                bytes.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => {
                return Err(ClientError::NotABroker {
                    url: url.to_owned(),
                    reason: "the answer is too large".to_owned(),
                });
            }
            Ok(None) => return Ok(Ok(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// Returns the error of an answer whose status code is no success.
fn rejection(status: StatusCode, headers: &HeaderMap, text: &str, url: String) -> ClientError {
    let retry_after = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let detail = serde_json::from_str::<Value>(text)
        .ok()
        .and_then(|mut body| body.get_mut("error").map(Value::take))
        .filter(|detail| detail["code"].is_string());
    if let Some(detail) = detail {
        let text_of = |name: &str| detail[name].as_str().unwrap_or("unknown").to_owned();
        return ClientError::Rejected {
            status,
            code: text_of("code"),
            message: text_of("message"),
            request_id: text_of("request_id"),
            retry_after,
            detail,
        };
    }
    if is_transient(status) {
        return ClientError::Unavailable {
            url,
            status,
            retry_after,
        };
    }
    let reason = if status.is_redirection() {
        format!(
            "it redirects (HTTP {}); set the address that it redirects to",
            status.as_u16()
        )
    } else {
        format!(
            "it answers with HTTP {} and no message of a broker; check the address and its path, /v1",
            status.as_u16()
        )
    };
    ClientError::NotABroker { url, reason }
}

/// Returns an error with its causes, without the URL, which the caller shows.
fn chain(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    if causes.is_empty() {
        causes.push(error.to_string());
    }
    causes.join(": ")
}
