//! A call of the SDK and the answer to it, as they go over the wire.

use std::io;

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Request, Response, StatusCode, header},
};
use hyper::body::Incoming;
use serde_json::Value;

const TARGET: &str = "x-amz-target";

/// The items that every process polls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Polled {
    Pauses,
    Policy,
}

/// One call of the SDK.
pub struct Call {
    /// The name after the dot in `X-Amz-Target`.
    pub operation: String,
    pub body: Bytes,
    headers: HeaderMap,
}

impl Call {
    pub(super) async fn read(request: Request<Incoming>) -> Result<Self, axum::Error> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(Body::new(body), usize::MAX).await?;
        let mut headers = parts.headers;
        let target = headers.get(TARGET);
        let target = target.map_or("", |target| target.to_str().unwrap());
        let operation = target.rsplit('.').next().unwrap().to_owned();
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        Ok(Self {
            operation,
            body,
            headers,
        })
    }

    /// Returns the body as JSON, or null.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(
            self.operation.as_str(),
            "UpdateItem" | "PutItem" | "DeleteItem" | "TransactWriteItems"
        )
    }

    /// Returns whether the call reads the pauses.
    pub fn reads_pauses(&self) -> bool {
        self.polled() == Some(Polled::Pauses)
    }

    /// Returns whether the call reads the policy.
    pub fn reads_policy(&self) -> bool {
        self.polled() == Some(Polled::Policy)
    }

    /// Returns the items that the call reads, if they are those that every process reads every two seconds.
    pub(super) fn polled(&self) -> Option<Polled> {
        if self.operation != "GetItem" {
            return None;
        }
        match self.json()["Key"]["PK"]["S"].as_str()? {
            "CONTROL" => Some(Polled::Pauses),
            "POLICY" => Some(Polled::Policy),
            _ => None,
        }
    }

    pub(super) fn is_index_query(&self) -> bool {
        self.operation == "Query" && self.json().get("IndexName").is_some()
    }

    /// Returns a call of another operation or with another body, which the server accepts from the same client.
    pub(super) fn with(&self, operation: &str, body: &Value) -> Self {
        let mut headers = self.headers.clone();
        let target = format!("DynamoDB_20120810.{operation}");
        headers.insert(TARGET, target.parse().unwrap());
        Self {
            operation: operation.to_owned(),
            body: body.to_string().into(),
            headers,
        }
    }
}

/// The server behind the proxy.
pub(super) struct Server {
    url: String,
    http: reqwest::Client,
}

impl Server {
    pub(super) fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub(super) async fn send(&self, call: &Call) -> io::Result<Answer> {
        let sent = self
            .http
            .post(&self.url)
            .headers(call.headers.clone())
            .body(call.body.clone())
            .send()
            .await
            .map_err(io::Error::other)?;
        let (status, mut headers) = (sent.status(), sent.headers().clone());
        for name in [
            header::TRANSFER_ENCODING,
            header::CONNECTION,
            header::CONTENT_LENGTH,
        ] {
            headers.remove(name);
        }
        let body = sent.bytes().await.map_err(io::Error::other)?;
        Ok(Answer {
            status,
            headers,
            body,
        })
    }
}

/// An answer of the server.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl From<Answer> for Response<Body> {
    fn from(answer: Answer) -> Self {
        let mut response = Self::new(Body::from(answer.body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response
    }
}
