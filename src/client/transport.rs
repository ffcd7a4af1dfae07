//! The client, which sends calls and repeats them.

use std::time::Duration;

use reqwest::{
    Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION},
};
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Body, Call, ClientError, Token, date::retry_after, error::is_transient_status,
};
use crate::{
    backoff::{Backoff, BackoffConfig},
    tls,
    url::redact,
};

/// The time-out of a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time-out of a request. A broker answers within 30 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// The longest text of an error that is shown, in characters.
const MAX_TEXT: usize = 10_000;
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
    /// The place of the token, for messages.
    token_place: String,
    /// How long calls are repeated.
    wait: Duration,
    backoff: Backoff,
    on_retry: fn(&ClientError, Duration),
}

impl Client {
    /// Creates a client that repeats calls for `wait` after transient errors, and calls `on_retry` before each pause.
    ///
    /// # Errors
    /// [`ClientError::Usage`] if a connection to `url` cannot be made from this machine.
    pub fn new(
        url: Url,
        token: &Token,
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
        let text = format!("Bearer {}", token.expose());
        let mut authorization = HeaderValue::try_from(text)
            .map_err(|_| usage("the token cannot be sent".to_owned()))?;
        authorization.set_sensitive(true);
        Ok(Self {
            http,
            url,
            authorization,
            token_place: token.place.clone(),
            wait,
            backoff: Backoff::new(BACKOFF, rand::random()),
            on_retry,
        })
    }

    /// Returns how long calls are repeated.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        self.wait
    }

    /// Sends a call until it succeeds or fails for good, or the next attempt would begin after the time to wait.
    ///
    /// # Errors
    /// [`ClientError`] of the last attempt.
    pub async fn send(&self, call: &Call) -> Result<Answer, ClientError> {
        self.send_within(call, self.wait).await
    }

    /// Sends a call as [`Self::send`] does, with another time to wait.
    ///
    /// # Errors
    /// [`ClientError`] of the last attempt.
    pub async fn send_within(&self, call: &Call, wait: Duration) -> Result<Answer, ClientError> {
        let never = CancellationToken::new();
        self.send_until(call, wait, &never, self.on_retry).await
    }

    /// Sends a call as [`Self::send_within`] does, with another `on_retry`, and without another attempt after `stop` is
    /// cancelled. An attempt is never cut short, because its outcome would be unknown.
    ///
    /// # Errors
    /// [`ClientError`] of the last attempt.
    pub async fn send_until(
        &self,
        call: &Call,
        wait: Duration,
        stop: &CancellationToken,
        mut on_retry: impl FnMut(&ClientError, Duration),
    ) -> Result<Answer, ClientError> {
        let began = Instant::now();
        let mut attempt = 0;
        loop {
            let error = match self.attempt(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // The broker asks all callers for the same wait. The jitter on top of it spreads their retries.
            let pause = self.backoff.pause(attempt) + error.retry_after().unwrap_or_default();
            let is_late = began.elapsed() + pause > wait;
            if !error.is_retried(call.awaited) || is_late || stop.is_cancelled() {
                return Err(error);
            }
            on_retry(&error, pause);
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => return Err(error),
            }
            attempt = attempt.saturating_add(1);
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Answer, ClientError> {
        let url = self.url_of(call)?;
        let shown = url.to_string();
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
        let response = request
            .send()
            .await
            .map_err(|error| no_answer(&shown, &error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = read(response, &shown).await?;
        if !status.is_success() {
            return Err(self.rejection(status, &headers, &text, shown));
        }
        // A body that ends with the connection can be cut short without any other sign.
        if is_json(&headers) && serde_json::from_str::<IgnoredAny>(&text).is_err() {
            return Err(ClientError::Unreachable {
                url: shown,
                cause: "the answer is incomplete".to_owned(),
                was_sent: true,
            });
        }
        Ok(Answer {
            status,
            headers,
            text,
            url: shown,
        })
    }

    /// Returns the URL of a call.
    fn url_of(&self, call: &Call) -> Result<Url, ClientError> {
        let mut url = self.url.clone();
        for segment in &call.segments {
            // A URL has no line breaks and tabs, so they would be dropped: the rest may be another id, or a step up.
            let has_dropped = segment.contains(['\t', '\n', '\r']);
            // These would change the path.
            if has_dropped || matches!(segment.as_str(), "" | "." | "..") {
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

    /// Returns the error of an answer without success.
    fn rejection(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        text: &str,
        url: String,
    ) -> ClientError {
        let retry_after = retry_after(headers);
        let detail = serde_json::from_str::<Value>(text)
            .ok()
            .and_then(|mut body| body.get_mut("error").map(Value::take))
            .filter(|detail| detail["code"].is_string());
        if let Some(detail) = detail {
            let text_of = |name: &str| {
                let text = detail[name].as_str().unwrap_or("unknown");
                text.chars().take(MAX_TEXT).collect::<String>()
            };
            let mut message = text_of("message");
            if status == StatusCode::UNAUTHORIZED {
                let place = &self.token_place;
                message = format!("{message} The token that was sent is that of {place}.");
            }
            return ClientError::Rejected {
                status,
                code: text_of("code"),
                message,
                request_id: text_of("request_id"),
                retry_after,
                detail,
            };
        }
        if is_transient_status(status) {
            return ClientError::Unavailable {
                url,
                status,
                retry_after,
            };
        }
        let code = status.as_u16();
        let target = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let reason = match target.filter(|_| status.is_redirection()) {
            Some(target) => format!(
                "it redirects to {} (HTTP {code}); set the address of the broker itself",
                redact(target)
            ),
            None => format!(
                "it answers with HTTP {code} and no message of a broker; check the address and its path, /v1"
            ),
        };
        ClientError::NotABroker { url, reason }
    }
}

/// Returns whether the body is a JSON document by its headers.
fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    media_type.is_some_and(|media_type| media_type.starts_with(b"application/json"))
}

/// Reads the body as text.
async fn read(mut response: Response, url: &str) -> Result<String, ClientError> {
    let mut bytes = Vec::new();
    let lost = |error: reqwest::Error| no_answer(url, &error);
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(ClientError::NotABroker {
                url: url.to_owned(),
                reason: "the answer is too large".to_owned(),
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the error of a call whose answer did not arrive, or not to its end.
fn no_answer(url: &str, error: &reqwest::Error) -> ClientError {
    ClientError::Unreachable {
        url: url.to_owned(),
        cause: chain(error),
        was_sent: !error.is_connect(),
    }
}

/// Returns the causes of an error. Its own text is left out unless it is the only one: it has the URL, which is shown
/// anyway.
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
