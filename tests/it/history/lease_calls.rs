//! The calls of holders about their leases: extension and replacement.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{
    calls::{AllocationBody, code},
    event::{EventKind, ExtendAnswer, ReplaceAnswer},
    world::World,
};

impl World {
    pub(super) async fn extend(
        &self,
        broker: usize,
        sandbox: &str,
        caller: &str,
        minutes: i64,
        timeout: Duration,
    ) -> ExtendAnswer {
        #[derive(Deserialize)]
        struct Body {
            expires_at: i64,
            max_expires_at: i64,
        }
        let began = self.recorder.now();
        let path = format!("/v1/sandboxes/{sandbox}/extend");
        let body = json!({ "minutes": minutes });
        let call = (Method::POST, path.as_str(), Some(&body));
        let answer = match self.send(broker, call, caller, &[], timeout).await {
            Err(reason) => ExtendAnswer::Unknown(reason),
            Ok((status, body)) => match (status.as_u16(), code(&body).as_str()) {
                (200, _) => match serde_json::from_slice(&body) {
                    Ok(Body {
                        expires_at,
                        max_expires_at,
                    }) => ExtendAnswer::Done {
                        expires_at,
                        max_expires_at,
                    },
                    Err(fault) => ExtendAnswer::Unknown(fault.to_string()),
                },
                (409, "EXTENSION_LIMIT_REACHED") => ExtendAnswer::Limit,
                (403, "ALLOCATION_EXPIRED") => ExtendAnswer::Ended,
                (403, "NOT_SANDBOX_OWNER") => ExtendAnswer::NotOwner,
                (404, "SANDBOX_NOT_FOUND") => ExtendAnswer::NotFound,
                (status, code) => ExtendAnswer::Unknown(format!("{status} {code}")),
            },
        };
        let kind = EventKind::Extend {
            caller: caller.to_owned(),
            sandbox: sandbox.to_owned(),
            minutes,
            answer: answer.clone(),
        };
        self.recorder.record(began, kind);
        answer
    }

    pub(super) async fn replace(
        &self,
        broker: usize,
        sandbox: &str,
        (caller, key): (&str, &str),
        timeout: Duration,
    ) -> ReplaceAnswer {
        let began = self.recorder.now();
        let path = format!("/v1/sandboxes/{sandbox}/replace");
        let body = json!({ "reason": "history" });
        let call = (Method::POST, path.as_str(), Some(&body));
        let answer = match self.send(broker, call, caller, &[], timeout).await {
            Err(reason) => ReplaceAnswer::Unknown(reason),
            Ok((status, body)) => match (status.as_u16(), serde_json::from_slice(&body)) {
                (201, Ok(body)) => ReplaceAnswer::New(AllocationBody::into(body)),
                (200, Ok(body)) => ReplaceAnswer::Current(AllocationBody::into(body)),
                (status, _) => refusal(status, &code(&body)),
            },
        };
        let (caller, key) = (caller.to_owned(), key.to_owned());
        if matches!(answer, ReplaceAnswer::Unknown(_)) {
            let call = (caller.clone(), key.clone(), sandbox.to_owned());
            self.memories.unreplaced.lock().unwrap().insert(call);
        }
        let kind = EventKind::Replace {
            caller,
            key,
            sandbox: sandbox.to_owned(),
            answer: answer.clone(),
        };
        self.recorder.record(began, kind);
        answer
    }
}

fn refusal(status: u16, code: &str) -> ReplaceAnswer {
    match (status, code) {
        (409, "NO_SANDBOXES_AVAILABLE") => ReplaceAnswer::NoneLeft,
        (409, "REPLACEMENT_LIMIT_REACHED") => ReplaceAnswer::Limit,
        (503, "ALLOCATIONS_PAUSED") => ReplaceAnswer::Paused,
        (403, "ALLOCATION_EXPIRED") => ReplaceAnswer::Ended,
        (403, "NOT_SANDBOX_OWNER") => ReplaceAnswer::NotOwner,
        (404, "SANDBOX_NOT_FOUND") => ReplaceAnswer::NotFound,
        _ => ReplaceAnswer::Unknown(format!("{status} {code}")),
    }
}
