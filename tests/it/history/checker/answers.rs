//! What releases and looks at a sandbox may answer.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::event::{Allocated, Event, Got, Released, What},
    Promise, Violation,
    facts::{Facts, Hold, Known},
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Violation>) {
    let mut requested: BTreeMap<&str, (usize, i64)> = BTreeMap::new();
    for (at, event) in facts.events.iter().enumerate() {
        if facts.is_calm(at) {
            calm(facts, at, event, found);
        }
        match &event.what {
            What::Release {
                caller,
                sandbox,
                answer,
            } => {
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
                    promise: Promise::Release,
                };
                found.extend(call.release(answer));
                if let Released::Done {
                    deletion_requested_at: now,
                } = answer
                {
                    let (first, before) = *requested.entry(sandbox).or_insert((at, *now));
                    if before != *now && !facts.may_have_been_gone(known, Duration::MAX) {
                        found.push(call.wrong(Some(first), "was given back at two times"));
                    }
                }
            }
            What::Get {
                caller,
                sandbox,
                answer,
            } => {
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
                    promise: Promise::Get,
                };
                found.extend(call.get(answer));
            }
            _ => {}
        }
    }
}

fn calm(facts: &Facts<'_>, at: usize, event: &Event, found: &mut Vec<Violation>) {
    let (What::Allocate {
        caller,
        answer: Allocated::Unknown(why),
        ..
    }
    | What::Release {
        caller,
        answer: Released::Unknown(why),
        ..
    }
    | What::Get {
        caller,
        answer: Got::Unknown(why),
        ..
    }) = &event.what
    else {
        return;
    };
    let calm = facts.calm.map(|(_, at)| at);
    found.push(Violation::new(
        Promise::Calm,
        [caller],
        calm.into_iter().chain([at]),
        format!("{caller} has no answer without a fault: {why}"),
    ));
}

/// A call about a sandbox that the history knows.
struct Call<'a> {
    facts: &'a Facts<'a>,
    at: usize,
    event: &'a Event,
    caller: &'a str,
    sandbox: &'a str,
    known: &'a Known<'a>,
    promise: Promise,
}

impl Call<'_> {
    fn release(&self, answer: &Released) -> Option<Violation> {
        match answer {
            Released::Done { .. } => self.must_be_owner(),
            Released::Expired => self.must_be_owner().or_else(|| self.must_be_over()),
            Released::NotOwner => self.may_not_be_owner(),
            Released::NotFound => self.may_not_be_there(),
            Released::Unknown(_) => None,
        }
    }

    fn get(&self, answer: &Got) -> Option<Violation> {
        match answer {
            Got::Is {
                status,
                allocated_at,
                expires_at,
            } => {
                if matches!(status.as_str(), "available" | "stale") {
                    return Some(self.wrong(None, "is in the pool and somebody's"));
                }
                self.must_be_owner()
                    .or_else(|| self.must_agree(*allocated_at, *expires_at))
            }
            Got::NotOwner => self.may_not_be_owner(),
            Got::NotFound => self.may_not_be_there(),
            Got::Unknown(_) => None,
        }
    }

    fn wrong(&self, with: Option<usize>, what: &str) -> Violation {
        let Self {
            caller, sandbox, ..
        } = self;
        Violation::new(
            self.promise,
            [self.sandbox],
            with.into_iter().chain([self.at]),
            format!("{caller} is answered that {sandbox} {what}"),
        )
    }

    fn hold(&self) -> Option<Hold<'_>> {
        self.known.hold
    }

    /// The caller has, or had, the sandbox.
    fn must_be_owner(&self) -> Option<Violation> {
        let Some(hold) = self.hold() else {
            return self.may_be_owner_unseen();
        };
        (hold.caller != self.caller).then(|| self.wrong(Some(hold.shown_by), "is another's"))
    }

    /// Nobody was told of an allocation, but one may have been made without an answer.
    fn may_be_owner_unseen(&self) -> Option<Violation> {
        let lost = self.facts.lost.get(self.caller);
        let unseen = lost.is_some_and(|began| *began <= self.event.ended);
        (!unseen).then(|| self.wrong(None, "is its own, and it never was"))
    }

    fn may_not_be_owner(&self) -> Option<Violation> {
        let hold = self.hold()?;
        let had_it = hold.caller == self.caller && hold.since < self.event.began;
        had_it.then(|| self.wrong(Some(hold.shown_by), "is another's"))
    }

    fn may_not_be_there(&self) -> Option<Violation> {
        let hold = self.hold()?;
        let is_held = hold.since < self.event.began && self.event.ended < hold.until;
        is_held.then(|| self.wrong(Some(hold.shown_by), "is not there, while it is held"))
    }

    fn must_be_over(&self) -> Option<Violation> {
        let (at, grant) = self
            .known
            .sightings
            .iter()
            .find_map(|sighting| Some((sighting.at, sighting.grant?)))?;
        let deadline = grant.expires_at + self.facts.terms.grace;
        let is_early = self.event.ended < self.facts.clock.may_pass(deadline);
        is_early.then(|| self.wrong(Some(at), "has expired, and its time is not up"))
    }

    fn must_agree(&self, allocated_at: i64, expires_at: i64) -> Option<Violation> {
        let differs = self.known.sightings.iter().find(|sighting| {
            sighting.allocated_at != allocated_at
                || sighting
                    .grant
                    .is_some_and(|grant| grant.expires_at != expires_at)
        })?;
        Some(self.wrong(Some(differs.at), "was allocated at another time"))
    }
}
