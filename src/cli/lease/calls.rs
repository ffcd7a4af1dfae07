//! The calls of a caller, and the bodies of their answers.

use serde::Deserialize;
use serde_json::json;

use super::AllocationOptions;
use crate::{
    client::{Call, ClientError},
    clock::UnixSeconds,
};

const CALLER: &str = "x-instruqt-sandbox-id";
const LAB: &str = "x-instruqt-track-id";
const PREFIX: &str = "x-sandbox-name-prefix";
const KEY: &str = "idempotency-key";

/// The errors of an allocation and of a replacement that end when other callers release their sandboxes, or an operator
/// resumes allocations.
pub(super) const AWAITED: &[&str] = &[
    "NO_SANDBOXES_AVAILABLE",
    "LAB_QUOTA_REACHED",
    "ALLOCATIONS_PAUSED",
];

/// The calls of a caller. Each method fails with [`ClientError::Usage`] if an argument cannot be sent.
#[derive(Clone, Debug)]
pub(super) struct LeaseCalls {
    caller: String,
}

/// A sandbox of the caller. The answer to an allocation has only some of the fields.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Sandbox {
    #[serde(rename = "sandbox_id")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) external_id: String,
    pub(super) sfdc_account_id: Option<String>,
    pub(super) status: Option<String>,
    pub(super) track_name: Option<String>,
    pub(super) allocated_at: UnixSeconds,
    pub(super) expires_at: Option<UnixSeconds>,
    pub(super) max_expires_at: Option<UnixSeconds>,
    pub(super) replaces: Option<String>,
    pub(super) replaced_by: Option<String>,
}

/// The sandboxes of the caller.
#[derive(Debug, Deserialize)]
pub(super) struct SandboxList {
    pub(super) sandboxes: Vec<Sandbox>,
}

/// The end of a lease after an extension.
#[derive(Debug, Deserialize)]
pub(super) struct Extension {
    pub(super) expires_at: UnixSeconds,
    pub(super) max_expires_at: UnixSeconds,
}

/// A released sandbox.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Released {
    pub(super) sandbox_id: String,
    pub(super) replaced_by: Option<String>,
}

impl Sandbox {
    /// Returns the id of the account without the path of the resource.
    pub(super) fn account_id(&self) -> &str {
        self.external_id.rsplit('/').next().unwrap_or_default()
    }
}

impl LeaseCalls {
    /// Creates the calls of `caller`.
    pub(super) const fn of(caller: String) -> Self {
        Self { caller }
    }

    pub(super) fn caller(&self) -> &str {
        &self.caller
    }

    /// Returns the call that lists the sandboxes of the caller.
    pub(super) fn list(&self) -> Result<Call, ClientError> {
        self.call(Call::get(["sandboxes"]))
    }

    /// Returns the call that reads one sandbox.
    pub(super) fn sandbox(&self, id: &str) -> Result<Call, ClientError> {
        self.call(Call::get(["sandboxes", id]))
    }

    /// Returns the call that allocates a sandbox, or reads the one that the caller holds under `key`.
    pub(super) fn allocation(
        &self,
        options: &AllocationOptions,
        minutes: Option<u32>,
        key: Option<&str>,
    ) -> Result<Call, ClientError> {
        let mut call = self.call(Call::post(["allocate"]))?;
        let optional = [
            (LAB, options.lab.as_deref()),
            (PREFIX, options.prefix.as_deref()),
            (KEY, key),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                call = call.header(name, value)?;
            }
        }
        if let Some(minutes) = minutes {
            call = call.json(json!({ "duration_minutes": minutes }));
        }
        Ok(call.awaiting(AWAITED))
    }

    /// Returns the call that extends a lease to at least `minutes` from now.
    pub(super) fn extension(&self, id: &str, minutes: u32) -> Result<Call, ClientError> {
        let body = json!({ "minutes": minutes });
        Ok(self.action(id, "extend")?.json(body))
    }

    /// Returns the call that replaces a broken sandbox by another one.
    pub(super) fn replacement(&self, id: &str, reason: &str) -> Result<Call, ClientError> {
        let body = json!({ "reason": reason });
        Ok(self.action(id, "replace")?.json(body).awaiting(AWAITED))
    }

    /// Returns the call that releases a sandbox.
    pub(super) fn release(&self, id: &str) -> Result<Call, ClientError> {
        self.action(id, "mark-for-deletion")
    }

    fn action(&self, id: &str, action: &str) -> Result<Call, ClientError> {
        self.call(Call::post(["sandboxes", id, action]))
    }

    /// Adds the caller to a call.
    fn call(&self, call: Call) -> Result<Call, ClientError> {
        call.header(CALLER, &self.caller)
    }
}
