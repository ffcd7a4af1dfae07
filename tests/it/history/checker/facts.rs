//! The certain facts of a history, by sandbox.

mod notes;

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::event::{Event, EventKind, Grant, RELEASE_LISTED, ReleaseAnswer, ReplaceAnswer, Row},
    Terms,
    clock::Clock,
    policies::Policies,
};

/// The progress of a sandbox. It never goes back once it had a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Pool,
    Held,
    Retired,
}

impl Phase {
    /// Returns the phase of a sandbox with the status, which has or had a holder or not.
    pub(super) fn of(status: &str, was_held: bool) -> Option<Self> {
        match status {
            "provisioning" | "available" | "stale" => Some(Self::Pool),
            "quarantined" if !was_held => Some(Self::Pool),
            "allocated" => Some(Self::Held),
            "pending_deletion" | "deletion_failed" | "quarantined" => Some(Self::Retired),
            _ => None,
        }
    }
}

/// An event that shows the present or past holder of the sandbox.
pub(super) struct Sighting<'a> {
    pub(super) at: usize,
    pub(super) caller: &'a str,
    pub(super) key: &'a str,
    pub(super) allocated_at: i64,
    pub(super) grant: Option<&'a Grant>,
    pub(super) is_new: bool,
}

/// An action of an operator, or an extension by the holder, that was done, or may have been.
pub(super) struct Act<'a> {
    pub(super) at: usize,
    pub(super) action: &'a str,
    /// Whether it was done for certain.
    pub(super) is_done: bool,
}

impl SandboxFacts<'_> {
    /// Returns the moment at which the first of these actions may have been done.
    pub(super) fn first_act(&self, events: &[Event], actions: &[&str]) -> Option<Duration> {
        let acts = self.acts.iter().filter(|act| actions.contains(&act.action));
        acts.map(|act| events[act.at].began).min()
    }

    /// Returns whether the allocation may have ended at `end`, as far as an answer shows: at its first end, or as an
    /// extension left it.
    pub(super) fn may_end_at(&self, end: i64) -> bool {
        let first = self.ends.iter().map(|(_, end)| *end).min();
        let mut extensions = self.acts.iter().filter(|act| act.action == "extend");
        first == Some(end)
            || extensions.any(|act| {
                let shown = |(at, shown): &(usize, i64)| *at == act.at && *shown == end;
                !act.is_done || self.ends.iter().any(shown)
            })
    }
}

/// The time for which a sandbox is certainly held: after `since` and before `until`.
#[derive(Clone, Copy)]
pub(super) struct Hold<'a> {
    pub(super) caller: &'a str,
    pub(super) key: &'a str,
    pub(super) since: Duration,
    pub(super) shown_by: usize,
    pub(super) until: Duration,
}

/// The facts about one sandbox. All indices are those of events.
#[derive(Default)]
pub(super) struct SandboxFacts<'a> {
    pub(super) sightings: Vec<Sighting<'a>>,
    /// Phases in which it was at some moment of the event.
    pub(super) views: Vec<(Phase, usize)>,
    pub(super) rows: Vec<(usize, &'a Row)>,
    /// Releases that may have taken effect, with their callers.
    pub(super) releases: Vec<(usize, &'a str)>,
    /// Replacements that may have taken effect, with their callers.
    pub(super) replacements: Vec<(usize, &'a str)>,
    /// Replacements that were refused although its caller holds it.
    pub(super) refused: Vec<usize>,
    /// The sandbox that its holder had before, with the event that shows it.
    pub(super) replaces: Option<(usize, &'a str)>,
    /// The lab that it was allocated to.
    pub(super) lab: Option<&'a str>,
    /// Actions of operators, and extensions by the holder, that may have been done.
    pub(super) acts: Vec<Act<'a>>,
    /// The ends of its allocation that allocations and actions show.
    pub(super) ends: Vec<(usize, i64)>,
    /// Its names in CSP, each with the event that set it.
    pub(super) names: Vec<(usize, &'a str)>,
    pub(super) external_id: Option<&'a str>,
    pub(super) deletions: Vec<usize>,
    pub(super) hidden: Option<Duration>,
    pub(super) renamed: Option<Duration>,
    pub(super) hold: Option<Hold<'a>>,
}

pub(super) struct Facts<'a> {
    pub(super) events: &'a [Event],
    pub(super) terms: Terms,
    pub(super) clock: Clock,
    pub(super) sandboxes: BTreeMap<&'a str, SandboxFacts<'a>>,
    /// The start of the calm phase and its event.
    pub(super) calm: Option<(Duration, usize)>,
    /// When each caller first sent an allocate request that may have taken effect although no answer shows it.
    pub(super) lost: BTreeMap<&'a str, Duration>,
    /// When allocations were first ordered to be paused.
    pub(super) paused: Option<Duration>,
    pub(super) policies: Policies<'a>,
    /// The scans of the table.
    pub(super) tables: Vec<usize>,
    /// When a bulk-delete first removed sandboxes, which does not involve CSP.
    removed: Option<Duration>,
}

impl<'a> Facts<'a> {
    pub(super) fn gather(terms: Terms, events: &'a [Event]) -> Self {
        let mut facts = Self {
            events,
            terms,
            clock: Clock::of(events, terms),
            sandboxes: BTreeMap::new(),
            calm: None,
            lost: BTreeMap::new(),
            paused: None,
            policies: Policies::of(events, terms),
            tables: Vec::new(),
            removed: None,
        };
        let mut deleted = Vec::new();
        for (at, event) in events.iter().enumerate() {
            match &event.kind {
                EventKind::AccountDeleted { external_id } => {
                    deleted.push((at, external_id.as_str()));
                }
                EventKind::Calm => facts.calm = facts.calm.or(Some((event.began, at))),
                _ => facts.note(at, event),
            }
        }
        facts.note_deletions(&deleted);
        let holds: Vec<_> = facts
            .sandboxes
            .values()
            .map(|known| facts.hold(known))
            .collect();
        for (known, hold) in facts.sandboxes.values_mut().zip(holds) {
            known.hold = hold;
        }
        facts
    }

    /// Returns whether one event had ended before the other began.
    pub(super) fn precedes(&self, a: usize, b: usize) -> bool {
        self.events[a].ended < self.events[b].began
    }

    /// Returns whether the sandbox may have been removed from the table by then and reinstated with its last holder.
    pub(super) fn may_have_been_gone(&self, known: &SandboxFacts<'_>, until: Duration) -> bool {
        let deleted = known.deletions.iter().map(|at| self.events[*at].began);
        deleted
            .chain(known.hidden)
            .chain(self.removed)
            .any(|began| began <= until)
    }

    /// Returns whether the event belongs to the calm phase.
    pub(super) fn is_calm(&self, at: usize) -> bool {
        self.calm
            .is_some_and(|(since, _)| self.events[at].began >= since)
    }

    fn hold(&self, known: &SandboxFacts<'a>) -> Option<Hold<'a>> {
        let first = known
            .sightings
            .iter()
            .min_by_key(|sighting| (self.events[sighting.at].ended, sighting.at))?;
        let released = known
            .releases
            .iter()
            .filter(|(at, caller)| *caller == first.caller && self.may_have_released(known, *at))
            .map(|(at, _)| self.events[*at].began)
            .min()
            .unwrap_or(Duration::MAX);
        let replaced = known
            .replacements
            .iter()
            .filter(|(at, caller)| *caller == first.caller && self.may_have_replaced(known, *at))
            .map(|(at, _)| self.events[*at].began)
            .min()
            .unwrap_or(Duration::MAX);
        // An allocation whose end no event shows may be over at any time. One that was extended was held then, so it
        // cannot have expired before its last end.
        let expired = known
            .ends
            .iter()
            .map(|(_, end)| self.clock.may_pass(end + self.terms.grace))
            .max()
            .unwrap_or(Duration::ZERO);
        let ended = known.first_act(self.events, &["release", RELEASE_LISTED, "quarantine"]);
        Some(Hold {
            caller: first.caller,
            key: first.key,
            since: self.events[first.at].ended,
            shown_by: first.at,
            until: released
                .min(replaced)
                .min(expired)
                .min(ended.unwrap_or(Duration::MAX)),
        })
    }

    /// Returns the lab that a sandbox was allocated to, itself or as a replacement.
    pub(super) fn lab_of(&self, known: &SandboxFacts<'a>) -> Option<&'a str> {
        let (_, old) = match known.lab {
            None => known.replaces?,
            lab => return lab,
        };
        self.sandboxes.get(old).and_then(|old| self.lab_of(old))
    }

    /// Returns whether a replacement may have taken effect. One with the answer `Ended` may have: its first attempt replaced
    /// the sandbox, and the one in its place was over before the second attempt.
    fn may_have_replaced(&self, known: &SandboxFacts<'_>, at: usize) -> bool {
        let is_ended = matches!(
            self.events[at].kind,
            EventKind::Replace {
                answer: ReplaceAnswer::Ended,
                ..
            }
        );
        !is_ended || known.rows.iter().any(|(_, row)| row.replaced_by.is_some())
    }

    /// Returns whether a release may have taken effect. One with the answer `NotFound` may have: its first attempt
    /// released the sandbox, a cleanup removed it, and the second attempt did not find it.
    fn may_have_released(&self, known: &SandboxFacts<'_>, at: usize) -> bool {
        let event = &self.events[at];
        let is_not_found = matches!(
            event.kind,
            EventKind::Release {
                answer: ReleaseAnswer::NotFound,
                ..
            }
        );
        !is_not_found || self.may_have_been_gone(known, event.ended)
    }
}
