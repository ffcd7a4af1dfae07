//! Faults that the simulator injects on request.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The kind of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum FaultKind {
    /// Answers with this status and a JSON error.
    Status {
        /// The status code, 400 to 599.
        code: u16,
    },
    /// Answers 429.
    RateLimit {
        /// The `Retry-After` header, in seconds; none if absent.
        retry_after_sec: Option<u64>,
    },
    /// Answers 200 with a web page, as a login page in front of CSP does.
    Html,
    /// Answers 200 with this JSON.
    Answer {
        /// The body, such as a list of invented accounts.
        body: Value,
    },
    /// Serves the call after a delay.
    Slow {
        /// The delay, in milliseconds.
        delay_ms: u64,
    },
    /// Serves the call, but never answers.
    Hang,
    /// Serves the call, but closes the connection in the middle of the answer.
    Reset,
    /// Answers a deletion with success without deleting the account.
    Forget,
    /// Lists every account twice.
    Duplicates,
    /// Adds invalid entries to the list, and makes its last entry invalid.
    Broken,
    /// Lists no account.
    Empty,
    /// Lists every second account.
    Halved,
    /// Lists the first account with half a surrogate pair in its name, and the second with a byte that is not UTF-8.
    Garbled,
    /// Lists at most `size` entries in an answer, with the number of all, and continues at `_offset`.
    Paged {
        /// The size of a page.
        size: usize,
    },
    /// Lists the first `size` entries with the number of all, and ignores `_offset`.
    FirstPage {
        /// The size of the page.
        size: usize,
    },
}

/// The calls to which a fault applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// All calls.
    #[default]
    Any,
    /// `GET /current_user/accounts`.
    List,
    /// `DELETE /sandbox/accounts/<uuid>`.
    Delete,
    /// The NIOSXaaS calls: sign in, switch, list, delete.
    Niosxaas,
}

/// A fault, which is active until it has applied to `times` calls or is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The calls to which it applies.
    #[serde(default)]
    pub on: Call,
    /// Its kind.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// The `csp_id`s of the accounts to whose deletions it applies; empty for all accounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<u64>,
    /// The number of calls after which it ends; `None` for no end.
    pub times: Option<u64>,
    /// Makes the fault periodic: of each group of `every` calls, it applies to the first `burst`.
    #[serde(default)]
    pub every: Option<u64>,
    /// See `every`; 1 if `None`.
    #[serde(default)]
    pub burst: Option<u64>,
}

impl Fault {
    /// Creates a fault that applies to every call.
    #[must_use]
    pub const fn always(kind: FaultKind) -> Self {
        Self {
            on: Call::Any,
            kind,
            accounts: Vec::new(),
            times: None,
            every: None,
            burst: None,
        }
    }
}

/// The active faults, each with the number of calls that it has been checked for.
#[derive(Debug, Default)]
pub(super) struct ActiveFaults(VecDeque<(Fault, u64)>);

impl ActiveFaults {
    /// Replaces the faults.
    pub(super) fn replace(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.0 = faults.into_iter().map(|fault| (fault, 0)).collect();
    }

    pub(super) fn list(&self) -> Vec<Fault> {
        self.0.iter().map(|(fault, _)| fault.clone()).collect()
    }

    /// Returns the kind of the first fault that applies to this call, and counts the call. `deleted` is the account
    /// that the call deletes.
    pub(super) fn next(&mut self, call: Call, deleted: Option<u64>) -> Option<FaultKind> {
        for (fault, seen) in &mut self.0 {
            let is_concerned = fault.accounts.is_empty()
                || deleted.is_some_and(|deleted| fault.accounts.contains(&deleted));
            if !is_concerned || (fault.on != Call::Any && fault.on != call) {
                continue;
            }
            let in_burst = fault
                .every
                .is_none_or(|every| *seen % every.max(1) < fault.burst.unwrap_or(1));
            *seen += 1;
            if !in_burst || fault.times == Some(0) {
                continue;
            }
            fault.times = fault.times.map(|times| times - 1);
            return Some(fault.kind.clone());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(fault: Fault) -> ActiveFaults {
        let mut faults = ActiveFaults::default();
        faults.replace([fault]);
        faults
    }

    #[test]
    fn periodic_fault_applies_to_the_start_of_each_period() {
        let mut faults = active(Fault {
            every: Some(5),
            burst: Some(2),
            ..Fault::always(FaultKind::Html)
        });
        let applied: Vec<_> = (0..10)
            .map(|_| faults.next(Call::List, None).is_some())
            .collect();
        assert_eq!(
            applied,
            [
                true, true, false, false, false, true, true, false, false, false
            ]
        );
    }

    #[test]
    fn counted_fault_ends() {
        let mut faults = active(Fault {
            on: Call::List,
            times: Some(1),
            ..Fault::always(FaultKind::Hang)
        });
        assert_eq!(faults.next(Call::Delete, Some(1)), None);
        assert_eq!(faults.next(Call::List, None), Some(FaultKind::Hang));
        assert_eq!(faults.next(Call::List, None), None);
    }

    #[test]
    fn fault_of_an_account_applies_to_its_deletion_only() {
        let mut faults = active(Fault {
            accounts: vec![7],
            ..Fault::always(FaultKind::Html)
        });
        let mut applies = |call, deleted| faults.next(call, deleted).is_some();
        assert!(applies(Call::Delete, Some(7)));
        assert!(!applies(Call::Delete, Some(8)));
        assert!(!applies(Call::List, None));
    }
}
