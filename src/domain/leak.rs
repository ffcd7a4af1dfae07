//! Leaks: allocations whose play is likely over, judged by how long the allocations of their lab usually last.

use std::time::Duration;

use super::{LONGEST_DURATION, Sandbox, Status, percentile::percentile_95};
use crate::clock::UnixSeconds;

/// The number of durations from which on the history of a lab has a usual one.
const FEWEST_DURATIONS: usize = 10;
/// The shortest time after its last sign at which a play is suspected to be over, however short the plays of its lab are.
const SHORTEST_SILENCE: Duration = Duration::from_mins(30);

/// How long the last allocations of a lab have lasted, as far as their holders released them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabHistory {
    /// Some of the last durations, in no order.
    pub durations: Vec<Duration>,
    /// When the last one was added.
    pub updated_at: Option<UnixSeconds>,
}

impl LabHistory {
    /// Returns how long an allocation of the lab usually lasts at most: the 95th percentile of the durations. `None` with
    /// too few.
    #[must_use]
    pub fn usual(&self) -> Option<Duration> {
        let has_enough = self.durations.len() >= FEWEST_DURATIONS;
        percentile_95(self.durations.clone()).filter(|_| has_enough)
    }

    /// Returns how long after its last sign a play of the lab is suspected to be over: half as long again as is usual,
    /// because 5 of 100 plays last longer than the 95th percentile. `None` with too few durations.
    #[must_use]
    pub fn suspected_after(&self) -> Option<Duration> {
        let usual = self.usual()?;
        Some(usual.saturating_add(usual / 2).max(SHORTEST_SILENCE))
    }
}

/// The source of a usual duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The history of the lab.
    History,
    /// The end of the allocation itself, where the lab has no history, or the play names none.
    End,
}

/// How long an allocation usually lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usual {
    /// The duration.
    pub duration: Duration,
    /// The source of the duration.
    pub basis: Basis,
}

/// An allocation whose play is likely over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// The sandbox that is held.
    pub sandbox: Sandbox,
    /// How long it has been held.
    pub held: Duration,
    /// How long such an allocation usually lasts.
    pub usual: Usual,
}

/// An allocation as an operator has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenAllocation {
    /// Its start.
    pub allocated_at: UnixSeconds,
    /// Its end, if the operator states it.
    pub expires_at: Option<UnixSeconds>,
}

impl SeenAllocation {
    /// Returns whether `sandbox` still has this allocation, not extended since.
    #[must_use]
    pub fn matches(self, sandbox: &Sandbox) -> bool {
        let is_extended = self
            .expires_at
            .is_some_and(|seen| sandbox.expires_at.is_some_and(|end| end > seen));
        sandbox.allocated_at == self.allocated_at && !is_extended
    }
}

impl Sandbox {
    /// Returns how long its play held the sandbox, for the history of its lab: until the holder released it. `None` if the
    /// allocation ended in any other way; if the sandbox replaced another one, because its play began before; and if the
    /// duration is negative or longer than any allowed one, because clocks differ.
    #[must_use]
    pub fn play_duration(&self) -> Option<Duration> {
        let released_at = self.lease.released_at?;
        if self.lease.replaces.is_some() {
            return None;
        }
        since(self.allocated_at, released_at).filter(|held| *held <= LONGEST_DURATION)
    }

    /// Returns how long the sandbox has been held, and how long such an allocation usually lasts, if its play is likely over
    /// at `now`: the time since the last sign of the play, its allocation or extension, is longer than
    /// [`LabHistory::suspected_after`]. Without a usual duration, the end of the allocation counts.
    #[must_use]
    pub fn overstayed(
        &self,
        history: Option<&LabHistory>,
        now: UnixSeconds,
    ) -> Option<(Duration, Usual)> {
        if self.status != Status::Allocated {
            return None;
        }
        let held = since(self.allocated_at, now)?;
        let of_lab =
            history.and_then(|history| Some((history.usual()?, history.suspected_after()?)));
        let Some((usual, suspected_after)) = of_lab else {
            let end = self.expires_at.filter(|end| *end < now)?;
            let usual = Usual {
                duration: since(self.allocated_at, end)?,
                basis: Basis::End,
            };
            return Some((held, usual));
        };
        let extended_at = self.lease.extended_at.and_then(|at| at.if_credible(now));
        let last_sign = extended_at.map_or(self.allocated_at, |at| at.max(self.allocated_at));
        let usual = Usual {
            duration: usual,
            basis: Basis::History,
        };
        since(last_sign, now)
            .filter(|silence| *silence > suspected_after)
            .map(|_| (held, usual))
    }
}

/// Returns the time between the start of an allocation and a later time; `None` if it has no valid start, or the time is
/// before it.
fn since(start: UnixSeconds, later: UnixSeconds) -> Option<Duration> {
    let seconds = later.0.checked_sub(start.0).filter(|_| start.0 > 0)?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Account, SandboxId};

    const START: UnixSeconds = UnixSeconds(1_774_000_000);
    const MINUTE: Duration = Duration::from_mins(1);

    fn held() -> Sandbox {
        Sandbox {
            status: Status::Allocated,
            allocated_at: START,
            expires_at: Some(START + MINUTE * 240),
            ..Sandbox::available(Account {
                sandbox_id: SandboxId::stored("1"),
                name: "lab-1".to_owned(),
                external_id: "identity/accounts/1".to_owned(),
                sfdc_account_id: None,
                created_at: None,
            })
        }
    }

    /// The history of a lab with these durations, in minutes.
    fn history(minutes: impl IntoIterator<Item = u32>) -> LabHistory {
        LabHistory {
            durations: minutes
                .into_iter()
                .map(|minutes| MINUTE * minutes)
                .collect(),
            updated_at: None,
        }
    }

    fn suspected_at(
        sandbox: &Sandbox,
        history: Option<&LabHistory>,
        minutes: u32,
    ) -> Option<Usual> {
        let found = sandbox.overstayed(history, START + MINUTE * minutes);
        found.map(|(held, usual)| {
            assert_eq!(held, MINUTE * minutes);
            usual
        })
    }

    #[test]
    fn usual_duration_is_the_95th_percentile_of_enough_durations() {
        assert_eq!(history(1..=9).usual(), None);
        assert_eq!(history(1..=10).usual(), Some(MINUTE * 10));
        assert_eq!(history((1..=100).rev()).usual(), Some(MINUTE * 95));
    }

    #[test]
    fn allocation_is_suspected_after_half_as_long_again_as_usual() {
        let (sandbox, history) = (held(), history([60; 10]));
        assert_eq!(suspected_at(&sandbox, Some(&history), 90), None);
        let usual = Usual {
            duration: MINUTE * 60,
            basis: Basis::History,
        };
        assert_eq!(suspected_at(&sandbox, Some(&history), 91), Some(usual));
        let pending = Sandbox {
            status: Status::PendingDeletion,
            ..sandbox
        };
        assert_eq!(suspected_at(&pending, Some(&history), 91), None);
    }

    #[test]
    fn no_allocation_is_suspected_within_half_an_hour() {
        let history = history([1; 100]);
        assert_eq!(suspected_at(&held(), Some(&history), 30), None);
        assert!(suspected_at(&held(), Some(&history), 31).is_some());
    }

    #[test]
    fn extension_is_a_sign_that_the_play_goes_on() {
        let history = history([60; 10]);
        let mut sandbox = held();
        sandbox.lease.extended_at = Some(START + MINUTE * 100);
        assert_eq!(suspected_at(&sandbox, Some(&history), 190), None);
        assert!(suspected_at(&sandbox, Some(&history), 191).is_some());
        // An extension in the future, recorded by a clock that is ahead, does not count.
        sandbox.lease.extended_at = Some(START + MINUTE * 10_000);
        assert!(suspected_at(&sandbox, Some(&history), 91).is_some());
    }

    #[test]
    fn allocation_of_a_lab_without_a_history_is_suspected_after_its_own_end() {
        let sandbox = held();
        let usual = Usual {
            duration: MINUTE * 240,
            basis: Basis::End,
        };
        for history in [None, Some(history([1; 9]))] {
            assert_eq!(suspected_at(&sandbox, history.as_ref(), 240), None);
            assert_eq!(suspected_at(&sandbox, history.as_ref(), 241), Some(usual));
        }
        let endless = Sandbox {
            expires_at: None,
            ..held()
        };
        assert_eq!(suspected_at(&endless, None, 10_000), None);
        let never = Sandbox {
            allocated_at: UnixSeconds(0),
            ..held()
        };
        assert_eq!(never.overstayed(None, START + MINUTE * 10_000), None);
    }

    #[test]
    fn play_duration_is_known_only_after_a_release_by_the_holder() {
        let released = |minutes: i64| {
            let mut sandbox = held();
            sandbox.lease.released_at = Some(UnixSeconds(START.0 + minutes * 60));
            sandbox
        };
        assert_eq!(released(50).play_duration(), Some(MINUTE * 50));
        assert_eq!(
            held().play_duration(),
            None,
            "expired, or released by an operator"
        );
        assert_eq!(released(-1).play_duration(), None, "measured by two clocks");
        assert_eq!(
            released(31 * 24 * 60).play_duration(),
            None,
            "longer than any lab"
        );
        let mut replacing = released(50);
        replacing.lease.replaces = Some(SandboxId::stored("2"));
        assert_eq!(replacing.play_duration(), None, "its play began before");
    }

    #[test]
    fn seen_allocation_matches_unless_it_is_another_one_or_was_extended() {
        let seen = |start: UnixSeconds, end| SeenAllocation {
            allocated_at: start,
            expires_at: end,
        };
        let end = held().expires_at;
        assert!(seen(START, None).matches(&held()));
        assert!(seen(START, end).matches(&held()));
        assert!(!seen(START + MINUTE, end).matches(&held()));
        assert!(!seen(START, Some(START)).matches(&held()));
    }

    proptest! {
        #[test]
        fn any_times_and_durations_are_judged(
            times in proptest::array::uniform5(any::<i64>()),
            durations in proptest::collection::vec(any::<u64>(), 0..20),
            replaces in any::<bool>(),
        ) {
            let [allocated_at, end, extended_at, released_at, now] = times.map(UnixSeconds);
            let history = LabHistory {
                durations: durations.into_iter().map(|seconds| Duration::from_secs(seconds / 4)).collect(),
                updated_at: None,
            };
            let mut sandbox = Sandbox { allocated_at, expires_at: Some(end), ..held() };
            sandbox.lease.extended_at = Some(extended_at);
            sandbox.lease.released_at = Some(released_at);
            sandbox.lease.replaces = replaces.then(|| SandboxId::stored("2"));
            if let Some((held, usual)) = sandbox.overstayed(Some(&history), now) {
                prop_assert!(now > allocated_at && !held.is_zero());
                prop_assert_eq!(usual.basis == Basis::History, history.usual().is_some());
            }
            prop_assert!(sandbox.play_duration().is_none_or(|held| held <= LONGEST_DURATION));
        }
    }
}
