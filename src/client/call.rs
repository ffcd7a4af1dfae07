//! One call of the API, and its answer.

use std::fmt;

use reqwest::{
    Method, StatusCode,
    header::{DATE, HeaderMap, HeaderName, HeaderValue},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ClientError, date};
use crate::clock::UnixSeconds;

/// The body of a call.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// No body.
    #[default]
    None,
    /// A JSON document.
    Json(Value),
    /// A document of another media type, such as `application/toml`.
    Text {
        /// Its media type.
        media_type: &'static str,
        /// The document.
        text: String,
    },
}

/// A call of the API. All calls that the command line makes are safe to repeat, so a call may be sent several times.
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) method: Method,
    pub(super) segments: Vec<String>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) awaited: &'static [&'static str],
}

impl Call {
    /// Creates a call of the path that `segments` form below the broker's URL. Each is one segment, whatever it contains; one
    /// that cannot be sent as it is fails when the call is sent.
    pub fn new<S: Into<String>>(method: Method, segments: impl IntoIterator<Item = S>) -> Self {
        Self {
            method,
            segments: segments.into_iter().map(Into::into).collect(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Body::None,
            awaited: &[],
        }
    }

    /// Creates a `GET` call, as [`Call::new`] does.
    pub fn get<S: Into<String>>(segments: impl IntoIterator<Item = S>) -> Self {
        Self::new(Method::GET, segments)
    }

    /// Creates a `POST` call, as [`Call::new`] does.
    pub fn post<S: Into<String>>(segments: impl IntoIterator<Item = S>) -> Self {
        Self::new(Method::POST, segments)
    }

    /// Adds a query parameter if it has a value.
    #[must_use]
    pub fn query(mut self, name: &'static str, value: Option<impl fmt::Display>) -> Self {
        self.query
            .extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Adds a header.
    ///
    /// # Errors
    /// [`ClientError::Usage`] if the value cannot be sent, for instance because it has a line break.
    pub fn header(mut self, name: &'static str, value: &str) -> Result<Self, ClientError> {
        let sent = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            ClientError::Usage(format!(
                "{value:?} cannot be sent as {name}: it has a control character"
            ))
        })?;
        self.headers.insert(HeaderName::from_static(name), sent);
        Ok(self)
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(self, body: Value) -> Self {
        self.body(Body::Json(body))
    }

    /// Names error codes after which this call is repeated. For other calls they are final.
    #[must_use]
    pub fn awaiting(mut self, codes: &'static [&'static str]) -> Self {
        self.awaited = codes;
        self
    }
}

/// A successful answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code, 2xx.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
    pub(super) url: String,
}

impl Answer {
    /// Returns when the answer was sent, by the clock of its sender, which may differ from that of this machine.
    #[must_use]
    pub fn sent_at(&self) -> Option<UnixSeconds> {
        date::parse(self.headers.get(DATE)?)
    }

    /// Returns the error that this answer is not one of a broker.
    #[must_use]
    pub fn not_a_broker(&self, reason: impl Into<String>) -> ClientError {
        ClientError::NotABroker {
            url: self.url.clone(),
            reason: reason.into(),
        }
    }

    /// Returns the body as a JSON document; `null` if it is empty.
    ///
    /// # Errors
    /// [`ClientError::NotABroker`] if it is no JSON of the expected form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        let text = if self.text.is_empty() {
            "null"
        } else {
            &self.text
        };
        serde_json::from_str(text).map_err(|error| {
            self.not_a_broker(format!("the answer is not of the expected form ({error})"))
        })
    }
}
