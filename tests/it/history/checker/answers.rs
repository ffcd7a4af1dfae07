//! Which answers releases and reads of a sandbox may have.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use super::{
    super::event::{
        AllocateAnswer, Event, EventKind, ExtendAnswer, GetAnswer, ReleaseAnswer, ReplaceAnswer,
    },
    Promise, Violation,
    clock::at_least,
    facts::{Facts, Hold, SandboxFacts, Sighting},
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut requested: BTreeMap<&str, (usize, i64)> = BTreeMap::new();
    for (at, event) in facts.events.iter().enumerate() {
        if facts.is_calm(at) {
            calm(facts, at, event, found);
        }
        paused(facts, at, event, found);
        let (EventKind::Release {
            caller, sandbox, ..
        }
        | EventKind::Extend {
            caller, sandbox, ..
        }
        | EventKind::Replace {
            caller, sandbox, ..
        }
        | EventKind::Get {
            caller, sandbox, ..
        }) = &event.kind
        else {
            continue;
        };
        let Some(known) = facts.sandboxes.get(sandbox.as_str()) else {
            continue;
        };
        let call = Call {
            facts,
            at,
            event,
            caller,
            sandbox,
            known,
            promise: match event.kind {
                EventKind::Release { .. } => Promise::Release,
                EventKind::Extend { .. } => Promise::Lease,
                EventKind::Replace { .. } => Promise::Replacement,
                _ => Promise::Get,
            },
        };
        match &event.kind {
            EventKind::Release { answer, .. } => {
                found.extend(call.release(answer));
                if let ReleaseAnswer::Done {
                    deletion_requested_at: now,
                } = answer
                    && *now > 0
                {
                    let (first, before) = *requested.entry(sandbox).or_insert((at, *now));
                    // An operator's deletion is another request.
                    let is_excused = facts.may_have_been_gone(known, Duration::MAX)
                        || known.acts.iter().any(|act| act.action == "delete");
                    if before != *now && !is_excused {
                        found.push(call.wrong(Some(first), "was released at two times"));
                    }
                }
            }
            EventKind::Get { answer, .. } => found.extend(call.get(answer)),
            EventKind::Extend {
                minutes, answer, ..
            } => found.extend(call.extend(*minutes, answer)),
            EventKind::Replace { answer, .. } => found.extend(call.replace(answer)),
            _ => {}
        }
    }
}

fn calm(facts: &Facts<'_>, at: usize, event: &Event, found: &mut Vec<Violation>) {
    let (EventKind::Allocate {
        caller,
        answer: AllocateAnswer::Unknown(why),
        ..
    }
    | EventKind::Release {
        caller,
        answer: ReleaseAnswer::Unknown(why),
        ..
    }
    | EventKind::Extend {
        caller,
        answer: ExtendAnswer::Unknown(why),
        ..
    }
    | EventKind::Replace {
        caller,
        answer: ReplaceAnswer::Unknown(why),
        ..
    }
    | EventKind::Get {
        caller,
        answer: GetAnswer::Unknown(why),
        ..
    }) = &event.kind
    else {
        return;
    };
    let calm = facts.calm.map(|(_, at)| at);
    found.push(Violation::new(
        Promise::Calm,
        [caller],
        calm.into_iter().chain([at]),
        format!("{caller} got no answer without a fault: {why}"),
    ));
}

/// Allocations are refused as paused only after an operator has ordered it, and not in the calm phase, before which all
/// pauses end.
fn paused(facts: &Facts<'_>, at: usize, event: &Event, found: &mut Vec<Violation>) {
    let (EventKind::Allocate {
        caller,
        answer: AllocateAnswer::Paused,
        ..
    }
    | EventKind::Replace {
        caller,
        answer: ReplaceAnswer::Paused,
        ..
    }) = &event.kind
    else {
        return;
    };
    let ordered = facts.paused.is_some_and(|first| first <= event.ended);
    if !ordered || facts.is_calm(at) {
        let calm = facts.calm.filter(|_| ordered).map(|(_, at)| at);
        found.push(Violation::new(
            Promise::Paused,
            [caller],
            calm.into_iter().chain([at]),
            format!("{caller} is refused although allocations are not paused"),
        ));
    }
}

/// A call about a sandbox that the history knows.
struct Call<'a> {
    facts: &'a Facts<'a>,
    at: usize,
    event: &'a Event,
    caller: &'a str,
    sandbox: &'a str,
    known: &'a SandboxFacts<'a>,
    promise: Promise,
}

impl Call<'_> {
    fn release(&self, answer: &ReleaseAnswer) -> Option<Violation> {
        match answer {
            ReleaseAnswer::Done { .. } => self.must_be_owner(),
            ReleaseAnswer::Expired => self.must_be_owner().or_else(|| self.must_be_over()),
            ReleaseAnswer::NotOwner => self.may_not_be_owner(),
            ReleaseAnswer::NotFound => self.may_not_be_there(),
            ReleaseAnswer::Unknown(_) => None,
        }
    }

    fn get(&self, answer: &GetAnswer) -> Option<Violation> {
        match answer {
            GetAnswer::Found {
                status,
                allocated_at,
                expires_at,
            } => {
                if matches!(status.as_str(), "available" | "stale") {
                    return Some(self.wrong(None, "is available and theirs"));
                }
                self.must_be_owner()
                    .or_else(|| self.must_agree(*allocated_at, *expires_at))
            }
            GetAnswer::NotOwner => self.may_not_be_owner(),
            GetAnswer::NotFound => self.may_not_be_there(),
            GetAnswer::Unknown(_) => None,
        }
    }

    fn extend(&self, minutes: i64, answer: &ExtendAnswer) -> Option<Violation> {
        match answer {
            ExtendAnswer::Done {
                expires_at,
                max_expires_at,
            } => self
                .must_be_owner()
                .or_else(|| self.must_be_as_long(minutes, *expires_at, *max_expires_at)),
            ExtendAnswer::Limit => self.must_be_owner(),
            ExtendAnswer::Ended => self.must_be_owner().or_else(|| self.may_not_be_held()),
            ExtendAnswer::NotOwner => self.may_not_be_owner(),
            ExtendAnswer::NotFound => self.may_not_be_there(),
            ExtendAnswer::Unknown(_) => None,
        }
    }

    fn replace(&self, answer: &ReplaceAnswer) -> Option<Violation> {
        match answer {
            ReplaceAnswer::New(_)
            | ReplaceAnswer::Current(_)
            | ReplaceAnswer::NoneLeft
            | ReplaceAnswer::Limit => self.must_be_owner(),
            ReplaceAnswer::Ended => self.must_be_owner().or_else(|| self.may_not_be_held()),
            ReplaceAnswer::NotOwner => self.may_not_be_owner(),
            ReplaceAnswer::NotFound => self.may_not_be_there(),
            ReplaceAnswer::Paused | ReplaceAnswer::Unknown(_) => None,
        }
    }

    /// The allocation ends as late as it was asked for, or as its lab permits.
    fn must_be_as_long(&self, minutes: i64, end: i64, latest: i64) -> Option<Violation> {
        let now = at_least(self.facts.events, self.event.began, self.facts.terms)?;
        let is_less = end < latest.min(now + minutes * 60);
        is_less.then(|| self.wrong(None, "ends before the time that was asked for"))
    }

    fn wrong(&self, with: Option<usize>, fault: &str) -> Violation {
        let Self {
            caller, sandbox, ..
        } = self;
        Violation::new(
            self.promise,
            [self.sandbox],
            with.into_iter().chain([self.at]),
            format!("{caller} gets the answer that {sandbox} {fault}"),
        )
    }

    fn hold(&self) -> Option<Hold<'_>> {
        self.known.hold
    }

    /// The caller must hold or have held the sandbox.
    fn must_be_owner(&self) -> Option<Violation> {
        let Some(hold) = self.hold() else {
            return self.may_be_owner_unseen();
        };
        (hold.caller != self.caller).then(|| self.wrong(Some(hold.shown_by), "is another's"))
    }

    /// No answer shows an allocation, but one may have been made whose answer was lost.
    fn may_be_owner_unseen(&self) -> Option<Violation> {
        let lost = self.facts.lost.get(self.caller);
        let unseen = lost.is_some_and(|began| *began <= self.event.ended);
        (!unseen).then(|| self.wrong(None, "is theirs, and it never was"))
    }

    fn may_not_be_owner(&self) -> Option<Violation> {
        let hold = self.hold()?;
        let had_it = hold.caller == self.caller && hold.since < self.event.began;
        had_it.then(|| self.wrong(Some(hold.shown_by), "is another's"))
    }

    fn may_not_be_there(&self) -> Option<Violation> {
        let hold = self.held_throughout()?;
        Some(self.wrong(Some(hold.shown_by), "does not exist while it is held"))
    }

    /// The allocation has ended, or is overdue: then it is over for its holder, although an operator may still extend it.
    fn may_not_be_held(&self) -> Option<Violation> {
        let hold = self.held_throughout()?;
        self.must_be_over()?;
        Some(self.wrong(Some(hold.shown_by), "is over while it is held"))
    }

    /// Returns the hold of the sandbox if it was held during the whole call.
    fn held_throughout(&self) -> Option<Hold<'_>> {
        let hold = self.hold()?;
        let is_held = hold.since < self.event.began && self.event.ended < hold.until;
        is_held.then_some(hold)
    }

    fn must_be_over(&self) -> Option<Violation> {
        // The end only moves to a later time: it was at least the last one shown before, or else the first one.
        let ends = &self.known.ends;
        let (at, end) = ends
            .iter()
            .filter(|(at, _)| self.facts.precedes(*at, self.at))
            .max_by_key(|(at, end)| (*end, Reverse(*at)))
            .or_else(|| ends.iter().min_by_key(|(at, end)| (*end, *at)))?;
        let deadline = end + self.facts.terms.grace;
        let is_early = self.event.ended < self.facts.clock.may_pass(deadline);
        is_early.then(|| self.wrong(Some(*at), "has expired before its time was over"))
    }

    fn must_agree(&self, allocated_at: i64, expires_at: i64) -> Option<Violation> {
        let is_other = |sighting: &&Sighting<'_>| sighting.allocated_at != allocated_at;
        if let Some(differs) = self.known.sightings.iter().find(is_other) {
            return Some(self.wrong(Some(differs.at), "was allocated at another time"));
        }
        let ends = &self.known.ends;
        let later = ends
            .iter()
            .find(|(at, end)| *end > expires_at && self.facts.precedes(*at, self.at));
        let differs = later.or_else(|| {
            let first = ends.first()?;
            (!self.known.may_end_at(expires_at)).then_some(first)
        })?;
        Some(self.wrong(Some(differs.0), "ends at another time"))
    }
}
