//! The steps of a request, as `Broker::allocate` takes them, and the promises that every state must keep.

use std::{collections::HashMap, hash::BuildHasher};

use super::{
    promise::{Condition, Promise},
    state::{CLIENTS, ClaimPrecondition, Item, PAIR_OF, PAIRS, Phase, SANDBOXES, State},
    step::Step,
};

/// The result of the transaction that allocates.
enum Claim {
    Won,
    Held(Option<u8>),
    Lost,
}

/// The protocol, with all conditions or without one of them.
pub struct Protocol {
    without: Option<Condition>,
}

impl Protocol {
    pub const fn whole() -> Self {
        Self { without: None }
    }

    pub const fn without(condition: Condition) -> Self {
        Self {
            without: Some(condition),
        }
    }

    pub fn has(&self, condition: Condition) -> bool {
        self.without != Some(condition)
    }

    /// Returns the state after a step or the promise that the step breaks; `None` if the step is impossible or changes
    /// nothing.
    pub fn take(&self, before: &State, step: Step) -> Option<Result<State, Promise>> {
        let mut state = *before;
        let taken = match step {
            Step::Claim { client, sandbox } => self.claim(&mut state, client, sandbox)?,
            Step::LateClaim {
                pair,
                sandbox,
                precondition,
            } => {
                if state.sent & State::bit(pair, sandbox, precondition) == 0 {
                    return None;
                }
                self.transact(&mut state, pair, sandbox, precondition)
                    .map(drop)
            }
            Step::FindClaim { client } => self.find_claim(&mut state, client)?,
            Step::Resolve { client, is_overdue } => self.resolve(&mut state, client, is_overdue)?,
            Step::ExpireOwn { client } => self.expire_own(&mut state, client)?,
            Step::Repeat { client } => {
                let pair = PAIR_OF[usize::from(client)];
                let is_free = state.holds_nothing(pair);
                let client = &mut state.clients[usize::from(client)];
                client.retries = client.retries.checked_sub(1)?;
                client.phase = Phase::Choosing(ClaimPrecondition::New);
                client.was_free = is_free;
                Ok(())
            }
            Step::Release { sandbox, .. }
            | Step::Expire { sandbox, .. }
            | Step::ReleaseByOperator { sandbox }
            | Step::Extend { sandbox }
            | Step::Quarantine { sandbox }
            | Step::RestoreQuarantined { sandbox }
            | Step::Delete { sandbox }
            | Step::Insert { sandbox }
            | Step::MarkStale { sandbox }
            | Step::Restore { sandbox }
            | Step::Reinstate { sandbox }
            | Step::RemoveStale { sandbox }
            | Step::ReadDue { sandbox }
            | Step::DeleteAccount { sandbox }
            | Step::RemoveDeleted { sandbox }
            | Step::GiveUp { sandbox }
            | Step::RetryDeletion { sandbox }
            | Step::RemoveFailed { sandbox } => self.change(&mut state, sandbox, step)?,
        };
        if let Err(promise) = taken {
            return Some(Err(promise));
        }
        let state = state.settled();
        // A deleted account does not show in the table.
        let is_step = state != *before || matches!(step, Step::DeleteAccount { .. });
        is_step.then_some(Ok(state))
    }

    fn transact(
        &self,
        state: &mut State,
        pair: u8,
        sandbox: u8,
        precondition: ClaimPrecondition,
    ) -> Result<Claim, Promise> {
        let found = state.claims[usize::from(pair)];
        let precondition_holds = match precondition {
            ClaimPrecondition::New => found.is_none() || !self.has(Condition::ClaimMustBeNew),
            ClaimPrecondition::Leftover(leftover) => {
                found == Some(leftover)
                    || (found.is_some() && !self.has(Condition::LeftoverMustBeTheSame))
            }
        };
        let is_free = match state.item(sandbox) {
            Item::Available => true,
            Item::Absent => false,
            _ => !self.has(Condition::ClaimOnlyAvailable),
        };
        let outcome = match (precondition_holds, is_free) {
            (true, true) => Claim::Won,
            (false, _) => Claim::Held(found),
            (true, false) => Claim::Lost,
        };
        let is_won = matches!(outcome, Claim::Won);
        let on_its_own = !self.has(Condition::BothOrNeither);
        if is_won || (on_its_own && is_free) {
            let sandbox = &mut state.sandboxes[usize::from(sandbox)];
            if sandbox.had_holder {
                return Err(Promise::NeverReused);
            }
            sandbox.had_holder = true;
            sandbox.item = Item::Allocated(pair);
        }
        if is_won || (on_its_own && precondition_holds) {
            state.claims[usize::from(pair)] = Some(sandbox);
        }
        Ok(outcome)
    }

    /// Returns `None` if the client is not about to claim.
    fn claim(&self, state: &mut State, client: u8, sandbox: u8) -> Option<Result<(), Promise>> {
        let at = usize::from(client);
        let Phase::Choosing(precondition) = state.clients[at].phase else {
            return None;
        };
        let pair = PAIR_OF[at];
        // The transaction may arrive again.
        state.sent |= State::bit(pair, sandbox, precondition);
        let outcome = match self.transact(state, pair, sandbox, precondition) {
            Ok(outcome) => outcome,
            Err(promise) => return Some(Err(promise)),
        };
        state.clients[at].phase = match outcome {
            Claim::Won => Phase::Answered,
            Claim::Lost => Phase::Choosing(precondition),
            Claim::Held(_) if !self.has(Condition::PreconditionFollowsTheClaim) => {
                Phase::Choosing(precondition)
            }
            Claim::Held(None) => Phase::Choosing(ClaimPrecondition::New),
            Claim::Held(Some(pointer)) => Phase::Resolving {
                pointer,
                is_last: false,
            },
        };
        Some(Ok(()))
    }

    fn find_claim(&self, state: &mut State, client: u8) -> Option<Result<(), Promise>> {
        let at = usize::from(client);
        let Phase::Choosing(_) = state.clients[at].phase else {
            return None;
        };
        let found = state.claims[usize::from(PAIR_OF[at])];
        Some(match found {
            Some(pointer) if self.has(Condition::ReplayBeforeRefusing) => {
                state.clients[at].phase = Phase::Resolving {
                    pointer,
                    is_last: true,
                };
                Ok(())
            }
            _ => refuse(state, client),
        })
    }

    fn resolve(
        &self,
        state: &mut State,
        client: u8,
        is_overdue: bool,
    ) -> Option<Result<(), Promise>> {
        let at = usize::from(client);
        let Phase::Resolving { pointer, is_last } = state.clients[at].phase else {
            return None;
        };
        let is_held = state.item(pointer) == Item::Allocated(PAIR_OF[at]);
        let is_believed = !self.has(Condition::ResolveReadsTheSandbox);
        Some(if (is_held && !is_overdue) || is_believed {
            state.clients[at].phase = Phase::Answered;
            if is_held {
                Ok(())
            } else {
                Err(Promise::HoldsTheReturned)
            }
        } else if is_held && self.has(Condition::ExpireBeforeAnother) {
            state.clients[at].phase = Phase::Expiring {
                pointer,
                is_last,
                saw_extended: state.is_extended(pointer),
            };
            Ok(())
        } else {
            leave_pointer(state, client, pointer, is_last)
        })
    }

    fn expire_own(&self, state: &mut State, client: u8) -> Option<Result<(), Promise>> {
        let at = usize::from(client);
        let Phase::Expiring {
            pointer,
            is_last,
            saw_extended,
        } = state.clients[at].phase
        else {
            return None;
        };
        let before = state.sandboxes[usize::from(pointer)];
        let expired = self.expired(before, saw_extended);
        let is_early = expired.is_some() && before.is_extended && !saw_extended;
        let is_read_again = expired.is_none() && self.has(Condition::ReadAgainAfterRefusedExpiry);
        Some(if is_early {
            Err(Promise::ExtensionHolds)
        } else if is_read_again {
            state.clients[at].phase = Phase::Resolving { pointer, is_last };
            Ok(())
        } else {
            if let Some(expired) = expired {
                state.set(pointer, expired.item);
            }
            leave_pointer(state, client, pointer, is_last)
        })
    }

    /// Applies a change of a job, an operator or a release, which may happen at any time.
    fn change(&self, state: &mut State, sandbox: u8, step: Step) -> Option<Result<(), Promise>> {
        let of = &mut state.sandboxes[usize::from(sandbox)];
        let before = *of;
        *of = self.changed(before, step)?;
        let may_lose_holder = match (before.item, step) {
            (Item::Allocated(holder), Step::Release { pair, .. }) => holder == pair,
            (
                Item::Allocated(_),
                Step::Expire { .. } | Step::ReleaseByOperator { .. } | Step::Quarantine { .. },
            ) => true,
            (Item::Allocated(_), _) => before.item == of.item,
            _ => true,
        };
        let is_retired = matches!(before.item, Item::Pending | Item::Failed | Item::Absent);
        let is_early = before.is_extended
            && matches!(
                step,
                Step::Expire {
                    saw_extended: false,
                    ..
                }
            );
        Some(match step {
            _ if is_early => Err(Promise::ExtensionHolds),
            Step::DeleteAccount { .. } if !is_retired => Err(Promise::NothingHeldIsDeleted),
            _ if !may_lose_holder => Err(Promise::HolderKeeps),
            _ => Ok(()),
        })
    }

    /// Returns the promise that a state breaks by itself. `answered` caches which requests get an answer if they run alone.
    pub fn promise_broken_in<S: BuildHasher>(
        &self,
        state: &State,
        answered: &mut HashMap<u64, bool, S>,
    ) -> Option<Promise> {
        for pair in 0..PAIRS {
            let held = (0..SANDBOXES).filter(|at| state.item(*at) == Item::Allocated(pair));
            let held: Vec<_> = held.collect();
            if held.len() > 1 {
                return Some(Promise::OneSandbox);
            }
            let claim = state.claims[usize::from(pair)];
            if held.iter().any(|sandbox| claim != Some(*sandbox)) {
                return Some(Promise::ClaimPoints);
            }
        }
        let gets_none = |client| {
            let alone = State {
                clients: std::array::from_fn(|at| {
                    let mut other = state.clients[at];
                    if at != usize::from(client) {
                        other.phase = Phase::Answered;
                    }
                    other.retries = 0;
                    other.was_free = true;
                    other
                }),
                sent: 0,
                ..*state
            };
            let number = alone.number() ^ u64::from(client) << 62;
            !*answered
                .entry(number)
                .or_insert_with(|| self.is_answered(&alone, client, 8))
        };
        (0..CLIENTS).any(gets_none).then_some(Promise::Answers)
    }

    /// Returns whether a request gets an answer by its own steps if nothing else happens, without a refusal while a sandbox
    /// is available.
    fn is_answered(&self, state: &State, client: u8, steps: u32) -> bool {
        let is_one_available = (0..SANDBOXES).any(|at| state.item(at) == Item::Available);
        let gives_up = |step: &Step| is_one_available && matches!(step, Step::FindClaim { .. });
        let leads_on = |step| match self.take(state, step) {
            None => false,
            Some(Ok(next)) => self.is_answered(&next, client, steps - 1),
            // The search reports it where the step is taken.
            Some(Err(_)) => true,
        };
        state.clients[usize::from(client)].phase == Phase::Answered
            || steps > 0
                && Step::of_client(client)
                    .filter(|step| !gives_up(step))
                    .any(leads_on)
    }
}

/// Goes on after the pair turned out not to hold the sandbox that its claim points at.
fn leave_pointer(state: &mut State, client: u8, pointer: u8, is_last: bool) -> Result<(), Promise> {
    if is_last {
        return refuse(state, client);
    }
    state.clients[usize::from(client)].phase =
        Phase::Choosing(ClaimPrecondition::Leftover(pointer));
    Ok(())
}

/// Refuses a request, which is right if the pair held no sandbox at some moment of the request.
fn refuse(state: &mut State, client: u8) -> Result<(), Promise> {
    let is_free = state.holds_nothing(PAIR_OF[usize::from(client)]);
    let client = &mut state.clients[usize::from(client)];
    client.phase = Phase::Answered;
    if client.was_free || is_free {
        Ok(())
    } else {
        Err(Promise::HolderIsNotRefused)
    }
}
