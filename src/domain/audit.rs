//! Audit records: who did what, to what, and why.

use std::{fmt, sync::Arc};

use super::{JobName, Reason, Role, SandboxId, pause::Activity};

/// Who made a change: the principal of a request, or a job.
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
    /// A sandbox in quarantine was converted for the way back to the FastAPI service.
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
    /// Who did it.
    pub author: Author,
    /// What was done.
    pub action: AuditAction,
    /// To what.
    pub target: AuditTarget,
    /// Why, in the words of the author.
    pub reason: Option<Reason>,
    /// The state of the target before, as a JSON object. Contains no secret.
    pub before: Option<serde_json::Value>,
    /// Its state after.
    pub after: Option<serde_json::Value>,
    /// [`DONE`], or the code of the error with which the action was refused.
    pub outcome: &'static str,
}
