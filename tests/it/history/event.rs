//! The events of a history: every call of a client with its answer, and everything else that happened to the pool.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Something that happened between two moments, measured from the start of the history by one clock. An event that ended
/// before another began is certain to have come first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub began: Duration,
    pub ended: Duration,
    pub kind: EventKind,
}

/// The release of an allocation as it was listed among the leaks. If it was done, its end was the listed one.
pub const RELEASE_LISTED: &str = "release-listed";

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A call of `POST /allocate`.
    Allocate {
        caller: String,
        key: String,
        lab: Option<String>,
        prefix: Option<String>,
        /// The requested duration, in minutes.
        minutes: Option<i64>,
        answer: AllocateAnswer,
    },
    /// A call of `POST /sandboxes/{id}/mark-for-deletion`.
    Release {
        caller: String,
        sandbox: String,
        answer: ReleaseAnswer,
    },
    /// A call of `POST /sandboxes/{id}/extend`: not before `minutes` from then.
    Extend {
        caller: String,
        sandbox: String,
        minutes: i64,
        answer: ExtendAnswer,
    },
    /// A call of `POST /sandboxes/{id}/replace`.
    Replace {
        caller: String,
        /// The key of the allocation, as the caller remembers it.
        key: String,
        sandbox: String,
        answer: ReplaceAnswer,
    },
    /// A call of `PUT /admin/policy`. If it failed, the policy may be in force nevertheless.
    PolicySet { labs: Vec<LabQuota>, is_done: bool },
    /// Every broker has shown that it obeys the last policy, while no allocation was under way.
    PolicyObeyed,
    /// A call of `GET /sandboxes/{id}`.
    Get {
        caller: String,
        sandbox: String,
        answer: GetAnswer,
    },
    /// A call of `POST /admin/sandboxes/{id}/{action}` by an operator; for the action [`RELEASE_LISTED`], one of
    /// `POST /admin/leaks/release`.
    Act {
        sandbox: String,
        action: String,
        answer: ActAnswer,
    },
    /// CSP created an account at some moment of the event. It becomes a sandbox with the next sync.
    AccountCreated {
        sandbox: String,
        name: String,
        external_id: String,
    },
    /// CSP created an account at the order of a broker at some moment of the event.
    AccountOrdered {
        sandbox: String,
        name: String,
        external_id: String,
        /// It gets usable in time.
        is_usable: bool,
    },
    /// A policy with this pool was about to be set.
    PoolSet { prefix: String, target: usize },
    /// CSP's lists left out an account, so that its sandbox may have been stale for a while.
    ListsBroken,
    /// The open creations of a pool, after the faults have ended and the pool had time to fill.
    Creations { open: Vec<String> },
    /// CSP renamed the account.
    AccountRenamed { sandbox: String, name: String },
    /// CSP no longer lists the account, although the broker did not delete it. It may be listed again.
    AccountHidden { sandbox: String },
    /// CSP lists a hidden account again.
    AccountShown { sandbox: String },
    /// CSP accepted a request of the broker to delete the account.
    AccountDeleted { external_id: String },
    /// A run of a job, with its report if it completed.
    Job {
        name: String,
        report: Option<serde_json::Value>,
    },
    /// An operator ordered an activity to be paused; the order may have failed.
    PauseOrdered { activity: String },
    /// A broker was killed.
    Killed { broker: usize },
    /// A broker was started.
    Started { broker: usize },
    /// The clocks of all brokers were set forward: before the event they showed at most `from`, after it at least `to`,
    /// in Unix seconds, not counting the time that passes.
    ClockAdvanced { from: i64, to: i64 },
    /// A scan of the table, read from the engine without the proxy. Each item is as it was at some moment of the event.
    Table {
        sandboxes: Vec<Row>,
        claims: Vec<ClaimRow>,
        tombstones: Vec<String>,
    },
    /// From now on no fault is injected, and the history shows everything that happens.
    Calm,
}

/// The answer to `POST /allocate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllocateAnswer {
    /// 201.
    New(Grant),
    /// 200.
    Replayed(Grant),
    /// 409 `NO_SANDBOXES_AVAILABLE`.
    NoneLeft,
    /// 409 `LAB_QUOTA_REACHED`.
    LabFull,
    /// 503 `ALLOCATIONS_PAUSED`. An earlier attempt of the call may still take effect.
    Paused,
    /// Any other answer or none: the call may have taken effect.
    Unknown(String),
}

/// The body of an answer to an allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub sandbox: String,
    pub name: String,
    pub external_id: String,
    pub allocated_at: i64,
    pub expires_at: i64,
}

/// The answer to `POST /sandboxes/{id}/mark-for-deletion`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseAnswer {
    /// 200.
    Done {
        /// 0 if an operator has set the sandbox aside.
        deletion_requested_at: i64,
    },
    /// 403 `ALLOCATION_EXPIRED`.
    Expired,
    /// 403 `NOT_SANDBOX_OWNER`.
    NotOwner,
    /// 404.
    NotFound,
    Unknown(String),
}

/// The answer to `POST /sandboxes/{id}/extend`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExtendAnswer {
    /// 200.
    Done {
        expires_at: i64,
        max_expires_at: i64,
    },
    /// 409 `EXTENSION_LIMIT_REACHED`.
    Limit,
    /// 403 `ALLOCATION_EXPIRED`.
    Ended,
    /// 403 `NOT_SANDBOX_OWNER`.
    NotOwner,
    /// 404.
    NotFound,
    Unknown(String),
}

/// The answer to `POST /sandboxes/{id}/replace`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplaceAnswer {
    /// 201.
    New(Grant),
    /// 200: the caller does not hold the sandbox any more, but this one.
    Current(Grant),
    /// 409 `NO_SANDBOXES_AVAILABLE`.
    NoneLeft,
    /// 409 `REPLACEMENT_LIMIT_REACHED`.
    Limit,
    /// 503 `ALLOCATIONS_PAUSED`. An earlier attempt of the call may still take effect.
    Paused,
    /// 403 `ALLOCATION_EXPIRED`: the caller holds neither the sandbox nor one in its place.
    Ended,
    /// 403 `NOT_SANDBOX_OWNER`.
    NotOwner,
    /// 404.
    NotFound,
    Unknown(String),
}

/// The terms of a lab in a policy, as far as the checker depends on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabQuota {
    pub lab: String,
    pub max_held: Option<usize>,
    pub max_replacements: usize,
}

/// The answer to `GET /sandboxes/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GetAnswer {
    /// 200.
    Found {
        status: String,
        allocated_at: i64,
        expires_at: i64,
    },
    /// 403.
    NotOwner,
    /// 404.
    NotFound,
    Unknown(String),
}

/// The answer to an action of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActAnswer {
    /// 200, with the sandbox after the action.
    Done {
        status: String,
        caller: Option<String>,
        expires_at: Option<i64>,
    },
    /// 400, 404 or 409 with this code: nothing was done.
    Refused(String),
    /// Any other answer or none: the action may have been done.
    Unknown(String),
}

/// A sandbox item of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub sandbox: String,
    pub name: String,
    pub external_id: String,
    pub status: String,
    pub caller: Option<String>,
    pub key: Option<String>,
    /// Unix seconds; 0 if it never was allocated.
    pub allocated_at: i64,
    pub lab: Option<String>,
    /// The sandbox that its holder received in place of it.
    pub replaced_by: Option<String>,
    pub deletion_retry_count: u64,
    /// The author of its quarantine.
    pub quarantined_by: Option<String>,
}

/// A claim item of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    pub caller: String,
    pub key: String,
    pub sandbox: String,
    pub allocated_at: i64,
}
