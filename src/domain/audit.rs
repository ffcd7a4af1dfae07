//! Audit records: each states the author, the action, its target and its reason.

use std::{fmt, sync::Arc, time::Duration};

use serde_json::Value;

use super::{JobName, Principal, Reason, Role, RunId, SandboxId, pause::Activity};

/// How long audit records are retained.
pub const AUDIT_RETENTION: Duration = Duration::from_hours(400 * 24);

/// The author of a change: the principal of a request, or a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The name of the principal or job.
    pub name: Arc<str>,
    /// The role in which the principal acted; `None` for a job.
    pub role: Option<Role>,
    /// The id of the request or run.
    pub request_id: String,
    /// The address that the request came from; `None` for a job.
    pub address: Option<String>,
}

impl Author {
    /// Returns the author of the changes that a request makes.
    #[must_use]
    pub fn of_request(principal: &Principal, request_id: String, address: Option<String>) -> Self {
        Self {
            name: Arc::clone(&principal.name),
            role: principal.roles.highest(),
            request_id,
            address,
        }
    }

    /// Returns the author of the changes that a run of a job makes.
    #[must_use]
    pub fn of_run(id: &RunId) -> Self {
        Self {
            name: id.job().as_str().into(),
            role: None,
            request_id: id.to_string(),
            address: None,
        }
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// The kind of an action.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum AuditAction {
            $($(#[$doc])* $name),+
        }

        impl AuditAction {
            /// Every action.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the name used in the table and the API.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text),+
                }
            }
        }
    };
}

actions! {
    /// An operator released a sandbox.
    Release = "sandbox.release",
    /// An operator extended an allocation.
    Extend = "sandbox.extend",
    /// An operator set a sandbox aside.
    Quarantine = "sandbox.quarantine",
    /// An operator brought a sandbox back from quarantine.
    Restore = "sandbox.restore",
    /// An operator sent a sandbox to its deletion.
    Delete = "sandbox.delete",
    /// The quarantine of a sandbox ended.
    QuarantineEnd = "sandbox.quarantine_end",
    /// A sandbox in quarantine or in `provisioning` was converted for the way back to the FastAPI service.
    ConvertForFastapi = "sandbox.to_fastapi",
    /// A job was started.
    StartJob = "job.start",
    /// An activity was paused.
    Pause = "pause.set",
    /// A pause was ended.
    Resume = "pause.end",
    /// A token was created.
    CreateToken = "token.create",
    /// A token was revoked.
    RevokeToken = "token.revoke",
    /// The policy was changed.
    SetPolicy = "policy.set",
    /// A request that none of the other actions stands for, which was refused.
    Request = "request",
}

impl fmt::Display for AuditAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The object of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditTarget {
    /// A sandbox.
    Sandbox(SandboxId),
    /// A job.
    Job(JobName),
    /// A pause.
    Pause(Activity),
    /// The id of a token, or its name before it has one.
    Token(String),
    /// The policy.
    Policy,
    /// The method and route of a request.
    Route(String),
}

impl fmt::Display for AuditTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sandbox(id) => write!(f, "sandbox/{id}"),
            Self::Job(job) => write!(f, "job/{job}"),
            Self::Pause(activity) => write!(f, "pause/{activity}"),
            Self::Token(id) => write!(f, "token/{id}"),
            Self::Policy => f.write_str("policy"),
            Self::Route(route) => write!(f, "route/{route}"),
        }
    }
}

/// The outcome of an action that was done; a refused action has the code of its error instead.
pub const DONE: &str = "done";

/// A record of one action.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRecord {
    /// The time, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// The author of the action.
    pub author: Author,
    /// The action.
    pub action: AuditAction,
    /// The object of the action.
    pub target: AuditTarget,
    /// The reason, in the words of the author.
    pub reason: Option<Reason>,
    /// The state of the target before, as a JSON object. Contains no secret.
    pub before: Option<Value>,
    /// Its state after.
    pub after: Option<Value>,
    /// [`DONE`], or the code of the error with which the action was refused.
    pub outcome: &'static str,
}

impl AuditRecord {
    /// Returns the record of an action that was done, without a reason and without states.
    #[must_use]
    pub const fn done(
        at_ms: i64,
        author: Author,
        action: AuditAction,
        target: AuditTarget,
    ) -> Self {
        Self {
            at_ms,
            author,
            action,
            target,
            reason: None,
            before: None,
            after: None,
            outcome: DONE,
        }
    }
}

/// An event to display: an [`AuditRecord`] of any version of the broker as it was stored, or an event that is derived
/// from the item or the tombstone of a sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The time, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// The name of the action or event.
    pub action: String,
    /// The name of the author; `None` if it is not known.
    pub actor: Option<String>,
    /// The role in which the actor acted.
    pub role: Option<String>,
    /// To what.
    pub target: String,
    /// [`DONE`], or the code of the error with which it was refused.
    pub outcome: String,
    /// Why, in the words of the actor.
    pub reason: Option<String>,
    /// The state of the target before.
    pub before: Option<Value>,
    /// Its state after.
    pub after: Option<Value>,
    /// The id of the request or run; `None` for an event that is derived from an item.
    pub request_id: Option<String>,
    /// The address that the request came from.
    pub address: Option<String>,
}

/// The conditions that the events of a listing meet. A pattern is the whole text, or its beginning and a `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// The pattern of the actor.
    pub actor: Option<String>,
    /// The pattern of the action.
    pub action: Option<String>,
    /// The pattern of the target.
    pub target: Option<String>,
    /// The pattern of the outcome.
    pub outcome: Option<String>,
}

impl EventFilter {
    /// Returns whether every event meets the conditions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether `event` meets the conditions.
    #[must_use]
    pub fn admits(&self, event: &Event) -> bool {
        [
            (&self.actor, event.actor.as_deref().unwrap_or_default()),
            (&self.action, &event.action),
            (&self.target, &event.target),
            (&self.outcome, &event.outcome),
        ]
        .into_iter()
        .all(|(pattern, text)| {
            let pattern = pattern.as_deref();
            pattern.is_none_or(|pattern| match pattern.strip_suffix('*') {
                Some(beginning) => text.starts_with(beginning),
                None => text == pattern,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_matches_whole_texts_or_their_beginnings() {
        let event = Event {
            at_ms: 0,
            action: AuditAction::Release.to_string(),
            actor: Some("anna".to_owned()),
            role: None,
            target: "sandbox/2009521".to_owned(),
            outcome: DONE.to_owned(),
            reason: None,
            before: None,
            after: None,
            request_id: None,
            address: None,
        };
        let text = |text: &str| Some(text.to_owned());
        for (actor, action, target, outcome, is_admitted) in [
            (None, None, None, None, true),
            (text("anna"), None, None, text("done"), true),
            (text("ann"), None, None, None, false),
            (text("ann*"), text("sandbox.*"), None, None, true),
            (None, text("sandbox.extend"), None, None, false),
            (None, None, text("sandbox/*"), None, true),
            (None, None, text("sandbox/2009521"), None, true),
            (None, None, text("sandbox/200952"), None, false),
            (None, None, text("*"), text("FORBIDDEN"), false),
        ] {
            let filter = EventFilter {
                actor,
                action,
                target,
                outcome,
            };
            assert_eq!(filter.admits(&event), is_admitted, "{filter:?}");
        }
        let anonymous = Event {
            actor: None,
            ..event
        };
        let by_anna = EventFilter {
            actor: text("anna"),
            ..EventFilter::default()
        };
        assert!(!by_anna.admits(&anonymous));
    }
}
