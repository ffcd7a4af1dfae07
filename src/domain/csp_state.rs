//! The state of CSP and `NIOSXaaS` as jobs observe it, which all processes share.

use super::BreakerState;
use crate::clock::UnixSeconds;

/// The state of one service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceState {
    /// Its circuit breaker.
    pub breaker: BreakerState,
    /// Since when it has rejected the broker's credentials; `None` if it accepted them last.
    pub rejected_since: Option<UnixSeconds>,
}

/// The state of CSP and `NIOSXaaS`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CspState {
    /// CSP.
    pub csp: ServiceState,
    /// `NIOSXaaS`.
    pub niosxaas: ServiceState,
    /// The pace of the jobs that call CSP, as a fraction of the configured one.
    pub pace: f64,
}

impl Default for CspState {
    fn default() -> Self {
        Self {
            csp: ServiceState::default(),
            niosxaas: ServiceState::default(),
            pace: 1.0,
        }
    }
}

impl ServiceState {
    fn merged(self, base: Self, theirs: Self) -> Self {
        Self {
            breaker: self.breaker.merged(base.breaker, theirs.breaker),
            rejected_since: if self.rejected_since == base.rejected_since {
                theirs.rejected_since
            } else {
                self.rejected_since
            },
        }
    }
}

impl CspState {
    /// Returns the services by name.
    #[must_use]
    pub const fn services(&self) -> [(&'static str, &ServiceState); 2] {
        [("csp", &self.csp), ("niosxaas", &self.niosxaas)]
    }

    /// Combines this state with `theirs`, both changed from `base`: the changes of both are kept. Where both have
    /// changed the same value, the more cautious one is kept.
    #[must_use]
    #[expect(clippy::float_cmp, reason = "a copy is equal")]
    pub fn merged(self, base: Self, theirs: Self) -> Self {
        Self {
            csp: self.csp.merged(base.csp, theirs.csp),
            niosxaas: self.niosxaas.merged(base.niosxaas, theirs.niosxaas),
            pace: match (self.pace == base.pace, theirs.pace == base.pace) {
                (true, _) => theirs.pace,
                (false, true) => self.pace,
                (false, false) => self.pace.min(theirs.pace),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_pace(pace: f64) -> CspState {
        CspState {
            pace,
            ..CspState::default()
        }
    }

    #[test]
    fn changes_of_both_processes_hold() {
        let rejected = CspState {
            csp: ServiceState {
                rejected_since: Some(UnixSeconds(7)),
                ..ServiceState::default()
            },
            ..CspState::default()
        };
        let merged = rejected.merged(CspState::default(), with_pace(0.5));
        assert_eq!(
            merged,
            CspState {
                csp: rejected.csp,
                ..with_pace(0.5)
            }
        );
        for (mine, theirs, expected) in [(1.0, 0.5, 0.5), (0.25, 1.0, 0.25), (0.25, 0.5, 0.25)] {
            let merged = with_pace(mine).merged(CspState::default(), with_pace(theirs));
            assert_eq!(merged, with_pace(expected));
        }
    }
}
