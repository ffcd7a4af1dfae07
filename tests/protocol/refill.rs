//! Refill: the creations of a pool, two runs at once, CSP with lost and late answers, syncs, and the sandboxes that come of
//! it.
//!
//! CSP accepts a name twice. A request takes effect at any time until the settle time of a later run is over, or never.
//! Time only matters where a run waits. A sandbox counts until it is used; one that was set aside and has returned is left
//! out, because no refill could know of it.

mod run;
mod state;
mod step;

use super::{
    explorer::{Answered, Model},
    promise::{Condition, Promise},
};
pub use state::State;
use state::{Account, CREATIONS, CURRENT, Creation, Phase, Run, Sandbox};
use step::Event;
pub use step::Step;

/// Refill, with all conditions or without one of them.
pub struct Refill {
    without: Option<Condition>,
}

impl Refill {
    pub const KINDS: usize = Step::KINDS;

    pub const fn of(without: Option<Condition>) -> Self {
        Self { without }
    }

    fn has(&self, condition: Condition) -> bool {
        self.without != Some(condition)
    }

    /// A request takes effect.
    fn take_effect(state: &mut State, at: u8) -> Option<Result<(), Promise>> {
        let entry = state.entry(at);
        entry.flying = entry.flying.checked_sub(1)?;
        if entry.account != Account::None {
            return Some(Err(Promise::CreatedOnce));
        }
        entry.account = Account::Exists;
        let is_too_many = state.unused_accounts() > usize::from(state.in_force);
        Some(if is_too_many {
            Err(Promise::NoMoreThanTheTarget)
        } else {
            Ok(())
        })
    }

    /// A step of a sync, of a caller, of CSP, or of time.
    fn happen(&self, state: &mut State, at: u8, event: Event) -> Option<()> {
        let began = state.run(CURRENT).map_or(0, |run| run.began);
        let entry = state.entry(at);
        let is_open = matches!(entry.creation, Creation::Attempted | Creation::Created);
        let exists = entry.account == Account::Exists;
        let is_absent = entry.sandbox == Sandbox::Absent;
        let is_adopted =
            entry.creation != Creation::Attempted || !self.has(Condition::AdoptBeforeInsert);
        let is_inserted = !is_absent || !self.has(Condition::ListedAfterInsert);
        let is_hidden = !entry.is_shown
            && (entry.creation == Creation::Intended
                && !self.has(Condition::ReadCreationsConsistently)
                || !is_absent && !self.has(Condition::ReadSandboxesConsistently));
        match (event, entry.sandbox) {
            (Event::IntendAgain, _) if began & 1 << at != 0 => entry.creation = Creation::Intended,
            (Event::Lose, _) => entry.flying = entry.flying.checked_sub(1)?,
            (Event::Adopt, _) if exists && entry.creation == Creation::Attempted => {
                if self.has(Condition::AdoptBeforeInsert) {
                    entry.creation = Creation::Created;
                }
            }
            (Event::Insert, Sandbox::Absent) if exists && is_adopted => {
                (entry.sandbox, entry.is_shown) = (Sandbox::Ready, false);
            }
            (Event::MarkListed, _) if is_open && is_inserted && entry.account != Account::None => {
                entry.creation = Creation::Listed;
            }
            (Event::Show, _) if is_hidden => entry.is_shown = true,
            (Event::Use, Sandbox::Ready) => entry.sandbox = Sandbox::Used,
            (Event::Delete, Sandbox::Used) => {
                (entry.sandbox, entry.account) = (Sandbox::Gone, Account::Deleted);
            }
            (Event::SetAside, Sandbox::Ready) => entry.sandbox = Sandbox::Aside,
            (Event::Return, Sandbox::Aside) => {
                (entry.sandbox, entry.has_returned) = (Sandbox::Ready, true);
            }
            (Event::Vanish, Sandbox::Absent) if exists && entry.creation == Creation::Created => {
                entry.account = Account::Deleted;
            }
            _ => return None,
        }
        Some(())
    }

    /// Returns whether runs and syncs without faults close every creation, and fill the pool as far as there are names.
    fn recovers(&self, state: &State) -> bool {
        let steps = Step::of_recovery();
        let mut state = *state;
        let mut starts = 4;
        loop {
            let next = steps.iter().find_map(|step| {
                let is_start = *step == Step::Start;
                if is_start && (starts == 0 || state.run(CURRENT).is_some()) {
                    return None;
                }
                starts -= u8::from(is_start);
                self.take(&state, *step)
            });
            match next {
                Some(Ok(next)) => state = next,
                // The search reports it where the step is taken.
                Some(Err(_)) => return true,
                None => return state.is_closed_and_full(),
            }
        }
    }
}

impl Model for Refill {
    type State = State;
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        Step::all()
    }

    fn take(&self, before: &State, step: Step) -> Option<Result<State, Promise>> {
        let mut state = *before;
        let taken = match step {
            Step::Start => {
                let [current, earlier] = state.runs;
                if current.is_some() && earlier.is_some() {
                    return None;
                }
                state.runs = [Some(Run::started()), current.or(earlier)];
                Ok(())
            }
            Step::Run { run, step } => self.step_of_run(&mut state, run, step)?,
            Step::Event {
                at,
                event: Event::TakeEffect,
            } => Self::take_effect(&mut state, at)?,
            Step::Event { at, event } => Ok(self.happen(&mut state, at, event)?),
            Step::SetTarget { target } => {
                state.target = target;
                state.in_force = state.in_force.max(target);
                Ok(())
            }
        };
        if let Err(promise) = taken {
            return Some(Err(promise));
        }
        if self.has(Condition::FenceOfRefill) {
            // A superseded run can only send the request that it has announced.
            let earlier = &mut state.runs[1];
            *earlier = earlier.and_then(|run| match run.phase {
                Phase::Sending(at) => Some(Run::sending(at)),
                _ => None,
            });
        }
        let state = state.settled();
        (state != *before).then_some(Ok(state))
    }

    fn promise_broken_in(&self, state: &State, answered: &mut Answered) -> Option<Promise> {
        let mut alone = *state;
        alone.runs = [None; 2];
        for at in 0..CREATIONS {
            alone.entry(at).flying = 0;
        }
        let alone = alone.settled();
        let recovers = answered
            .entry(alone.number())
            .or_insert_with(|| self.recovers(&alone));
        (!*recovers).then_some(Promise::NotForgotten)
    }

    fn number(state: &State) -> u128 {
        state.number()
    }

    fn kind(step: Step) -> &'static str {
        step.kind()
    }
}
