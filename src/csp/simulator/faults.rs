//! Faults that the simulator injects on request.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Call, SimulatedAccount, settings::is_one_of};

/// The kind of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum FaultKind {
    /// Answers with this status and a JSON error.
    Status {
        /// The status code, 400 to 599.
        code: u16,
    },
    /// Answers with this status and this message in a JSON error.
    Refuse {
        /// The status code, 400 to 599.
        code: u16,
        /// The message.
        message: String,
    },
    /// Serves the call, but answers with this status, as a gateway does that lost the answer.
    LostAnswer {
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
    /// Serves the call after a delay, also if the client has disconnected by then.
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
    /// Lists every entry twice.
    Duplicates,
    /// Adds invalid entries to the list, and makes its last entry invalid.
    Broken,
    /// Lists nothing: no account, or as if an account were not usable.
    Empty,
    /// Lists every second entry.
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

/// A fault, which is active until it has applied to `times` calls or is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The calls to which it applies.
    #[serde(default)]
    pub on: Call,
    /// Its kind.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// The `csp_id`s of the accounts to which it applies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<u64>,
    /// The names of the accounts to which it applies, also of ones that do not exist yet. One with a `*` at its end
    /// stands for all that begin alike. If neither this nor `accounts` has entries, the fault applies to all calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
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
            names: Vec::new(),
            times: None,
            every: None,
            burst: None,
        }
    }

    fn concerns(&self, call: Call, target: &Target) -> bool {
        let is_for_all = self.accounts.is_empty() && self.names.is_empty();
        self.on.includes(call)
            && (is_for_all
                || target.csp_id.is_some_and(|id| self.accounts.contains(&id))
                || target
                    .name
                    .as_ref()
                    .is_some_and(|name| is_one_of(&self.names, name)))
    }
}

/// The account that a call concerns, as far as the call says so.
#[derive(Debug, Default)]
pub(super) struct Target {
    pub(super) csp_id: Option<u64>,
    pub(super) name: Option<String>,
}

impl From<&SimulatedAccount> for Target {
    fn from(account: &SimulatedAccount) -> Self {
        Self {
            csp_id: Some(account.csp_id),
            name: Some(account.name.clone()),
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

    /// Returns the kind of the first fault that applies to this call, and counts the call.
    pub(super) fn next(&mut self, call: Call, target: &Target) -> Option<FaultKind> {
        for (fault, seen) in &mut self.0 {
            if !fault.concerns(call, target) {
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
            .map(|_| faults.next(Call::List, &Target::default()).is_some())
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
        let mut next = |call| faults.next(call, &Target::default());
        assert_eq!(next(Call::Delete), None);
        assert_eq!(next(Call::List), Some(FaultKind::Hang));
        assert_eq!(next(Call::List), None);
    }

    #[test]
    fn fault_of_an_account_applies_to_no_other() {
        let mut faults = active(Fault {
            accounts: vec![7],
            names: vec!["lab-1".to_owned(), "pool-*".to_owned()],
            ..Fault::always(FaultKind::Html)
        });
        let mut applies = |csp_id, name: Option<&str>| {
            let name = name.map(ToOwned::to_owned);
            faults
                .next(Call::Create, &Target { csp_id, name })
                .is_some()
        };
        assert!(applies(Some(7), Some("lab-2")));
        assert!(applies(None, Some("lab-1")));
        assert!(applies(Some(8), Some("pool-r000001")));
        assert!(!applies(Some(8), Some("lab-10")));
        assert!(!applies(None, None));
    }
}
