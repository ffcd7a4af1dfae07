//! The calls of operators about single sandboxes.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    calls::{TIMEOUT, code},
    event::{ActAnswer, EventKind, RELEASE_LISTED},
    memories::Remembered,
    world::World,
};
use crate::support::ADMIN;

impl World {
    /// Requests an action of an operator, and returns whether it was done.
    pub(super) async fn act(
        &self,
        broker: usize,
        sandbox: &str,
        action: &str,
        body: &Value,
    ) -> bool {
        #[derive(Deserialize)]
        struct Body {
            status: String,
            allocated_to_track: Option<String>,
            expires_at: Option<i64>,
        }
        let path = format!("sandboxes/{sandbox}/{action}");
        let done = |body: Body| ActAnswer::Done {
            status: body.status,
            caller: body.allocated_to_track,
            expires_at: body.expires_at,
        };
        let act = self.send_action(broker, &path, body, done);
        self.record_action(sandbox, action, act).await
    }

    /// Releases an allocation as it was listed among the leaks, and returns whether it was done.
    pub(super) async fn release_listed(&self, broker: usize, listed: &Remembered) -> bool {
        #[derive(Deserialize)]
        struct Body {
            results: [Outcome; 1],
        }
        #[derive(Deserialize)]
        struct Outcome {
            outcome: String,
            code: Option<String>,
        }
        let Remembered {
            sandbox,
            allocated_at,
            expires_at,
            ..
        } = listed;
        let body = json!({
            "reason": "history",
            "allocations": [{
                "sandbox_id": sandbox,
                "allocated_at": allocated_at,
                "expires_at": expires_at,
            }],
        });
        let done = |body: Body| {
            let [Outcome { outcome, code }] = body.results;
            let code = code.unwrap_or_else(|| outcome.clone());
            match outcome.as_str() {
                "released" => ActAnswer::Done {
                    status: "pending_deletion".to_owned(),
                    caller: None,
                    expires_at: Some(*expires_at),
                },
                "refused" | "not_attempted" => ActAnswer::Refused(code),
                _ => ActAnswer::Unknown(code),
            }
        };
        let release = self.send_action(broker, "leaks/release", &body, done);
        self.record_action(sandbox, RELEASE_LISTED, release).await
    }

    /// Sends an action of an operator, and returns the answer; `done` reads a body with the status 200.
    async fn send_action<B: DeserializeOwned>(
        &self,
        broker: usize,
        path: &str,
        body: &Value,
        done: impl FnOnce(B) -> ActAnswer,
    ) -> ActAnswer {
        let base = self.brokers[broker].base();
        let request = self
            .http
            .post(format!("{base}/v1/admin/{path}"))
            .bearer_auth(ADMIN)
            .timeout(TIMEOUT)
            .json(body);
        let answer = async {
            let answer = request.send().await?;
            let status = answer.status().as_u16();
            Ok::<_, reqwest::Error>((status, answer.bytes().await?))
        };
        match answer.await {
            Err(_) => ActAnswer::Unknown("no answer".to_owned()),
            Ok((200, body)) => serde_json::from_slice(&body)
                .map_or_else(|fault| ActAnswer::Unknown(fault.to_string()), done),
            Ok((400 | 404 | 409, body)) => ActAnswer::Refused(code(&body)),
            Ok((status, body)) => ActAnswer::Unknown(format!("{status} {}", code(&body))),
        }
    }

    /// Awaits an action, and records it. Returns whether it was done.
    async fn record_action(
        &self,
        sandbox: &str,
        action: &str,
        act: impl Future<Output = ActAnswer>,
    ) -> bool {
        let began = self.recorder.now();
        let answer = act.await;
        let is_done = matches!(answer, ActAnswer::Done { .. });
        let kind = EventKind::Act {
            sandbox: sandbox.to_owned(),
            action: action.to_owned(),
            answer,
        };
        self.recorder.record(began, kind);
        is_done
    }
}
