//! Calls of the broker's API, recorded with their answers.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    event::{AllocateAnswer, EventKind, GetAnswer, Grant, ReleaseAnswer},
    labs::lab_of,
    world::World,
};
use crate::support::TRACK;

/// Longer than any answer takes.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

/// The optional wishes of an allocate request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted<'a> {
    pub(super) prefix: Option<&'a str>,
    pub(super) minutes: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct AllocationBody {
    sandbox_id: String,
    name: String,
    external_id: String,
    allocated_at: i64,
    expires_at: i64,
}

impl From<AllocationBody> for Grant {
    fn from(body: AllocationBody) -> Self {
        Self {
            sandbox: body.sandbox_id,
            name: body.name,
            external_id: body.external_id,
            allocated_at: body.allocated_at,
            expires_at: body.expires_at,
        }
    }
}

pub(super) fn code(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["error"]["code"].as_str().unwrap_or("none").to_owned()
}

/// Why an outcome is unknown.
pub(super) type Unknown = String;

impl World {
    pub(super) async fn send(
        &self,
        broker: usize,
        (method, path, body): (Method, &str, Option<&Value>),
        caller: &str,
        headers: &[(&'static str, &str)],
        timeout: Duration,
    ) -> Result<(StatusCode, Vec<u8>), Unknown> {
        let base = self.brokers[broker].base();
        let mut request = self
            .http
            .request(method, format!("{base}{path}"))
            .bearer_auth(TRACK)
            .header("X-Instruqt-Sandbox-ID", caller)
            .timeout(timeout);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = async {
            let answer = request.send().await?;
            let status = answer.status();
            Ok((status, answer.bytes().await?.to_vec()))
        };
        answer.await.map_err(|error: reqwest::Error| {
            let word = if error.is_timeout() {
                "time-out"
            } else if error.is_connect() {
                "no connection"
            } else {
                "no answer"
            };
            word.to_owned()
        })
    }

    pub(super) async fn allocate(
        &self,
        broker: usize,
        (caller, key): (&str, &str),
        Wanted { prefix, minutes }: Wanted<'_>,
        timeout: Duration,
    ) -> AllocateAnswer {
        let began = self.recorder.now();
        let lab = lab_of(caller);
        let mut headers = vec![("Idempotency-Key", key)];
        headers.extend(prefix.map(|prefix| ("X-Sandbox-Name-Prefix", prefix)));
        headers.extend(lab.as_deref().map(|lab| ("X-Instruqt-Track-ID", lab)));
        let body = minutes.map(|minutes| json!({ "duration_minutes": minutes }));
        let call = (Method::POST, "/v1/allocate", body.as_ref());
        let answer = match self.send(broker, call, caller, &headers, timeout).await {
            Err(reason) => AllocateAnswer::Unknown(reason),
            Ok((status, body)) => match (status.as_u16(), serde_json::from_slice(&body)) {
                (201, Ok(body)) => AllocateAnswer::New(AllocationBody::into(body)),
                (200, Ok(body)) => AllocateAnswer::Replayed(AllocationBody::into(body)),
                (409, _) if code(&body) == "NO_SANDBOXES_AVAILABLE" => AllocateAnswer::NoneLeft,
                (409, _) if code(&body) == "LAB_QUOTA_REACHED" => AllocateAnswer::LabFull,
                (503, _) if code(&body) == "ALLOCATIONS_PAUSED" => AllocateAnswer::Paused,
                _ => AllocateAnswer::Unknown(format!("{} {}", status.as_u16(), code(&body))),
            },
        };
        let pair = (caller.to_owned(), key.to_owned());
        if matches!(answer, AllocateAnswer::Unknown(_)) {
            self.memories.unknown.lock().unwrap().insert(pair.clone());
        }
        let kind = EventKind::Allocate {
            caller: pair.0,
            key: pair.1,
            lab,
            prefix: prefix.map(str::to_owned),
            minutes,
            answer: answer.clone(),
        };
        self.recorder.record(began, kind);
        answer
    }

    pub(super) async fn release(
        &self,
        broker: usize,
        sandbox: &str,
        caller: &str,
        timeout: Duration,
    ) -> ReleaseAnswer {
        #[derive(Deserialize)]
        struct Body {
            deletion_requested_at: Option<i64>,
        }
        let began = self.recorder.now();
        let path = format!("/v1/sandboxes/{sandbox}/mark-for-deletion");
        let call = (Method::POST, path.as_str(), None);
        let answer = match self.send(broker, call, caller, &[], timeout).await {
            Err(reason) => ReleaseAnswer::Unknown(reason),
            Ok((status, body)) => match (status.as_u16(), code(&body).as_str()) {
                (200, _) => match serde_json::from_slice(&body) {
                    Ok(Body {
                        deletion_requested_at,
                    }) => ReleaseAnswer::Done {
                        deletion_requested_at: deletion_requested_at.unwrap_or(0),
                    },
                    Err(fault) => ReleaseAnswer::Unknown(fault.to_string()),
                },
                (403, "ALLOCATION_EXPIRED") => ReleaseAnswer::Expired,
                (403, "NOT_SANDBOX_OWNER") => ReleaseAnswer::NotOwner,
                (404, "SANDBOX_NOT_FOUND") => ReleaseAnswer::NotFound,
                (status, code) => ReleaseAnswer::Unknown(format!("{status} {code}")),
            },
        };
        let (caller, sandbox) = (caller.to_owned(), sandbox.to_owned());
        if matches!(answer, ReleaseAnswer::Unknown(_)) {
            let call = (caller.clone(), sandbox.clone());
            self.memories.unreleased.lock().unwrap().insert(call);
        }
        let kind = EventKind::Release {
            caller,
            sandbox,
            answer: answer.clone(),
        };
        self.recorder.record(began, kind);
        answer
    }

    pub(super) async fn get(&self, broker: usize, sandbox: &str, caller: &str) {
        #[derive(Deserialize)]
        struct Body {
            status: String,
            allocated_at: i64,
            expires_at: i64,
        }
        let began = self.recorder.now();
        let path = format!("/v1/sandboxes/{sandbox}");
        let call = (Method::GET, path.as_str(), None);
        let answer = match self.send(broker, call, caller, &[], TIMEOUT).await {
            Err(reason) => GetAnswer::Unknown(reason),
            Ok((status, body)) => match (status.as_u16(), code(&body).as_str()) {
                (200, _) => match serde_json::from_slice(&body) {
                    Ok(Body {
                        status,
                        allocated_at,
                        expires_at,
                    }) => GetAnswer::Found {
                        status,
                        allocated_at,
                        expires_at,
                    },
                    Err(fault) => GetAnswer::Unknown(fault.to_string()),
                },
                (403, _) => GetAnswer::NotOwner,
                (404, _) => GetAnswer::NotFound,
                (status, code) => GetAnswer::Unknown(format!("{status} {code}")),
            },
        };
        let kind = EventKind::Get {
            caller: caller.to_owned(),
            sandbox: sandbox.to_owned(),
            answer,
        };
        self.recorder.record(began, kind);
    }
}
