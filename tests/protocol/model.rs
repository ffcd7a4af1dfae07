//! The steps of a request, as `Broker::allocate` takes them, and the promises that every state must keep.

use super::{
    explorer::{Answered, Model},
    leases::{ask_replacement, lose_claim, read_old},
    promise::{Condition, Promise},
    protocol::Protocol,
    state::{CLIENTS, Claim, ClaimPrecondition, Item, PAIR_OF, PAIRS, Phase, SANDBOXES, State},
    step::{Part, Step},
};

/// The result of the transaction that allocates.
enum Attempt {
    Won,
    Held(Option<u8>),
    Lost,
}

impl Protocol {
    fn transact(
        &self,
        state: &mut State,
        pair: u8,
        sandbox: u8,
        precondition: ClaimPrecondition,
    ) -> Result<Attempt, Promise> {
        let found = state.claims[usize::from(pair)].map(|claim| claim.sandbox);
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
            (true, true) => Attempt::Won,
            (false, _) => Attempt::Held(found),
            (true, false) => Attempt::Lost,
        };
        let is_won = matches!(outcome, Attempt::Won);
        let on_its_own = !self.has(Condition::BothOrNeither);
        if is_won || (on_its_own && is_free) {
            let sandbox = &mut state.sandboxes[usize::from(sandbox)];
            if sandbox.had_holder {
                return Err(Promise::NeverReused);
            }
            if sandbox.is_unchecked {
                return Err(Promise::UsableBeforeAllocated);
            }
            sandbox.had_holder = true;
            sandbox.item = Item::Allocated(pair);
        }
        if is_won || (on_its_own && precondition_holds) {
            state.claims[usize::from(pair)] = Some(Claim::to(sandbox));
            state.have_replaced[usize::from(pair)] = false;
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
            Attempt::Won => Phase::Answered,
            Attempt::Lost => Phase::Choosing(precondition),
            Attempt::Held(_) if !self.has(Condition::PreconditionFollowsTheClaim) => {
                Phase::Choosing(precondition)
            }
            Attempt::Held(None) => Phase::Choosing(ClaimPrecondition::New),
            Attempt::Held(Some(pointer)) => Phase::Resolving {
                pointer,
                is_last: false,
            },
        };
        Some(Ok(()))
    }

    fn find_claim(&self, state: &mut State, client: u8) -> Option<Result<(), Promise>> {
        let at = usize::from(client);
        let found = state.claims[usize::from(PAIR_OF[at])].map(|claim| claim.sandbox);
        match state.clients[at].phase {
            Phase::Refusing { pointer } if found == Some(pointer) => {
                return Some(refuse(state, client));
            }
            Phase::Choosing(_) | Phase::Refusing { .. } => {}
            Phase::Replaced => {
                state.clients[at].phase =
                    found.map_or(Phase::Answered, |pointer| Phase::Following { pointer });
                return Some(Ok(()));
            }
            _ => return None,
        }
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
        let (pointer, is_last) = match state.clients[at].phase {
            Phase::Resolving { pointer, is_last } => (pointer, is_last),
            // A request to replace a sandbox that its pair no longer holds ends here, with another one or without.
            Phase::Following { .. } if !is_overdue => {
                state.clients[at].phase = Phase::Answered;
                return Some(Ok(()));
            }
            _ => return None,
        };
        let is_held = state.holds(PAIR_OF[at], pointer);
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
                saw: state.end(pointer),
            };
            Ok(())
        } else {
            self.leave_pointer(state, client, pointer, is_last)
        })
    }

    fn expire_own(&self, state: &mut State, client: u8) -> Option<Result<(), Promise>> {
        let at = usize::from(client);
        let Phase::Expiring {
            pointer,
            is_last,
            saw,
        } = state.clients[at].phase
        else {
            return None;
        };
        let before = state.sandboxes[usize::from(pointer)];
        let expired = self.expired(before, saw);
        let is_early = expired.is_some() && saw < before.end;
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
            self.leave_pointer(state, client, pointer, is_last)
        })
    }

    /// Goes on after the pair turned out not to hold the sandbox that its claim points at.
    fn leave_pointer(
        &self,
        state: &mut State,
        client: u8,
        pointer: u8,
        is_last: bool,
    ) -> Result<(), Promise> {
        // Without replacements, a refusal is right even if the claim is not read again.
        let is_read_again =
            self.part == Part::Leases && self.has(Condition::ReadClaimAgainBeforeRefusing);
        if is_last && !is_read_again {
            return refuse(state, client);
        }
        state.clients[usize::from(client)].phase = if is_last {
            Phase::Refusing { pointer }
        } else {
            Phase::Choosing(ClaimPrecondition::Leftover(pointer))
        };
        Ok(())
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
        let is_early = matches!(step, Step::Expire { saw, .. } if saw < before.end);
        Some(match step {
            _ if is_early => Err(Promise::ExtensionHolds),
            Step::DeleteAccount { .. } if !is_retired => Err(Promise::NothingHeldIsDeleted),
            _ if !may_lose_holder => Err(Promise::HolderKeeps),
            _ => Ok(()),
        })
    }

    /// Returns whether a request gets an answer by its own steps if nothing else happens, without a refusal while a sandbox
    /// is available.
    fn is_answered(&self, state: &State, client: u8, steps: u32) -> bool {
        let is_one_available = (0..SANDBOXES).any(|at| state.item(at) == Item::Available);
        let is_choosing = matches!(state.clients[usize::from(client)].phase, Phase::Choosing(_));
        let gives_up = |step: &Step| match step {
            Step::FindClaim { .. } => is_one_available && is_choosing,
            Step::FindNone { .. } => is_one_available,
            _ => false,
        };
        let leads_on = |step| match self.take(state, step) {
            None => false,
            Some(Ok(next)) => self.is_answered(&next, client, steps - 1),
            // The search reports it where the step is taken.
            Some(Err(_)) => true,
        };
        state.clients[usize::from(client)].phase == Phase::Answered
            || steps > 0
                && Step::of_client(self.part, client)
                    .filter(|step| !gives_up(step))
                    .any(leads_on)
    }
}

impl Model for Protocol {
    type State = State;
    type Step = Step;

    fn steps(&self) -> Vec<Step> {
        self.part.steps().collect()
    }

    fn take(&self, before: &State, step: Step) -> Option<Result<State, Promise>> {
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
            Step::AskReplacement { client, old } => ask_replacement(&mut state, client, old)?,
            Step::ReadOld { client } => read_old(&mut state, client)?,
            Step::Replace { client, new } => self.replace(&mut state, client, new)?,
            Step::FindNone { client } => self.find_none(&mut state, client)?,
            Step::LateReplace {
                pair,
                old,
                new,
                saw,
            } => self.exchange(&mut state, pair, (old, saw), new).map(drop),
            Step::Extend {
                by,
                sandbox,
                saw,
                to,
            } => self.extend(&mut state, by, sandbox, (saw, to))?,
            Step::LoseClaim { pair } => lose_claim(&mut state, pair)?,
            Step::Release { sandbox, .. }
            | Step::Expire { sandbox, .. }
            | Step::ReleaseByOperator { sandbox }
            | Step::Quarantine { sandbox }
            | Step::RestoreQuarantined { sandbox }
            | Step::Delete { sandbox }
            | Step::Insert { sandbox }
            | Step::InsertToCheck { sandbox }
            | Step::Provide { sandbox }
            | Step::QuarantineByCheck { sandbox }
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

    fn promise_broken_in(&self, state: &State, answered: &mut Answered) -> Option<Promise> {
        for pair in 0..PAIRS {
            let held = (0..SANDBOXES).filter(|at| state.holds(pair, *at));
            let held: Vec<_> = held.collect();
            if held.len() > 1 {
                return Some(Promise::OneSandbox);
            }
            let claim = state.claims[usize::from(pair)].map(|claim| claim.sandbox);
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
            let number = alone.number() ^ u128::from(client) << 126;
            !*answered
                .entry(number)
                .or_insert_with(|| self.is_answered(&alone, client, 8))
        };
        (0..CLIENTS).any(gets_none).then_some(Promise::Answers)
    }

    fn number(state: &State) -> u128 {
        state.number()
    }

    fn kind(step: Step) -> &'static str {
        step.kind()
    }
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
