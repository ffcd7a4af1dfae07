//! What a history is made of: every call of a client with its answer, and everything else that happened to the pool.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Something that happened between two moments. Both are counted from the beginning of the history by one clock, the
/// recorder's, so that an event that ended before another began is certain to have come first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub began: Duration,
    pub ended: Duration,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A call of `POST /allocate`.
    Allocate {
        caller: String,
        key: String,
        prefix: Option<String>,
        answer: Allocated,
    },
    /// A call of `POST /sandboxes/{id}/mark-for-deletion`.
    Release {
        caller: String,
        sandbox: String,
        answer: Released,
    },
    /// A call of `GET /sandboxes/{id}`.
    Get {
        caller: String,
        sandbox: String,
        answer: Got,
    },
    /// An account that CSP has from some moment of the event on. Before a sync it is no sandbox yet.
    AccountMade {
        sandbox: String,
        name: String,
        external_id: String,
    },
    /// CSP calls the account something else.
    AccountRenamed {
        sandbox: String,
        name: String,
    },
    /// The account vanished from CSP without a word of the broker's; it may come back.
    AccountHidden {
        sandbox: String,
    },
    AccountShown {
        sandbox: String,
    },
    /// CSP took an order of the broker's to delete the account.
    AccountDeleted {
        external_id: String,
    },
    /// The run of a job, with its report if the run went through to its end.
    Job {
        name: String,
        report: Option<serde_json::Value>,
    },
    /// A broker was killed, or started.
    Killed {
        broker: usize,
    },
    Started {
        broker: usize,
    },
    /// The clock of all brokers was set forward: before the event they read at most `from`, after it at least `to`, in
    /// Unix seconds, besides the time that passes.
    Clock {
        from: i64,
        to: i64,
    },
    /// Everything that the table holds, read from the engine itself, item by item, each as it was at some moment of the
    /// event.
    Table {
        sandboxes: Vec<Row>,
        claims: Vec<ClaimRow>,
        tombstones: Vec<String>,
    },
    /// From here on no fault is injected and nothing else is done than what the history still shows.
    Calm,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allocated {
    /// 201.
    New(Grant),
    /// 200.
    Again(Grant),
    /// 409 `NO_SANDBOXES_AVAILABLE`.
    NoneLeft,
    /// Any other answer, or none: whether it took effect is not known.
    Unknown(String),
}

/// What the answer to an allocation says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub sandbox: String,
    pub name: String,
    pub external_id: String,
    pub allocated_at: i64,
    pub expires_at: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Released {
    /// 200.
    Done {
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Got {
    /// 200.
    Is {
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

/// A sandbox as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub sandbox: String,
    pub name: String,
    pub external_id: String,
    pub status: String,
    pub caller: Option<String>,
    pub key: Option<String>,
    /// 0 if it never was.
    pub allocated_at: i64,
    pub deletion_retry_count: u64,
}

/// A claim as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    pub caller: String,
    pub key: String,
    pub sandbox: String,
    pub allocated_at: i64,
}
