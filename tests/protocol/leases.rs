//! The steps of extensions and replacements.

use super::{
    promise::{Condition, Promise},
    protocol::Protocol,
    state::{Claim, Item, PAIR_OF, Phase, State},
};

/// The result of the transaction that replaces.
pub enum Exchange {
    Won,
    /// The old one is not held any more, or the claim points elsewhere.
    OldLost,
    NewLost,
    AtMaximum,
}

impl Protocol {
    /// Moves the end of an allocation that was read with the end `saw`, by the holder or an operator.
    pub fn extend(
        &self,
        state: &mut State,
        by: Option<u8>,
        sandbox: u8,
        (saw, to): (u8, u8),
    ) -> Option<Result<(), Promise>> {
        let before = state.sandboxes[usize::from(sandbox)];
        let (holder, is_revived) = match before.item {
            Item::Allocated(holder) => (holder, false),
            // The pair held it when it was read.
            Item::Pending if !self.has(Condition::ExtendOnlyAllocated) => {
                let by = by?;
                let points = state.claims[usize::from(by)]?.sandbox == sandbox;
                (points.then_some(by)?, true)
            }
            _ => return None,
        };
        let is_foreign = by.is_some_and(|by| by != holder);
        let is_allowed = !is_foreign || !self.has(Condition::ExtendOnlyByTheHolder);
        let had_end = saw <= before.end || is_revived;
        let has_same_end = self.allows(
            before,
            saw == before.end || is_revived,
            Condition::ExtendOnlyFromTheSameEnd,
        );
        if !is_allowed || !had_end || !has_same_end {
            return None;
        }
        if is_foreign {
            return Some(Err(Promise::OthersDoNotExtend));
        }
        if to < before.end {
            return Some(Err(Promise::ExtensionHolds));
        }
        let after = &mut state.sandboxes[usize::from(sandbox)];
        (after.item, after.end) = (Item::Allocated(holder), to);
        let claim = &mut state.claims[usize::from(holder)];
        *claim = claim.map(|claim| Claim {
            is_outlived: claim.is_outlived || !self.has(Condition::ExtendTheClaim),
            is_at_maximum: claim.is_at_maximum && self.has(Condition::ExtensionKeepsTheCount),
            ..claim
        });
        Some(Ok(()))
    }

    pub fn replace(&self, state: &mut State, client: u8, new: u8) -> Option<Result<(), Promise>> {
        let at = usize::from(client);
        let Phase::Replacing { old, saw } = state.clients[at].phase else {
            return None;
        };
        if old == new {
            return None;
        }
        let outcome = match self.exchange(state, PAIR_OF[at], (old, saw), new) {
            Ok(outcome) => outcome,
            Err(promise) => return Some(Err(promise)),
        };
        state.clients[at].phase = match outcome {
            // Refused at the maximum, it keeps the old one, which the same transaction has found held.
            Exchange::Won | Exchange::AtMaximum => Phase::Answered,
            Exchange::NewLost => Phase::Replacing { old, saw },
            Exchange::OldLost => Phase::ReadingOld {
                old,
                is_last: false,
            },
        };
        Some(Ok(()))
    }

    /// The transaction that replaces: the old sandbox, which was read with the end `saw`, the new one, which does not end
    /// before it, and the claim.
    pub fn exchange(
        &self,
        state: &mut State,
        pair: u8,
        (old, saw): (u8, u8),
        new: u8,
    ) -> Result<Exchange, Promise> {
        let at = usize::from(pair);
        let held = state.holds(pair, old);
        let end = state.end(old);
        let has_same_end =
            saw == end || (saw < end && !self.has(Condition::ReplaceOnlyWithTheSameEnd));
        let claim = state.claims[at].filter(|claim| claim.sandbox == old);
        let is_below = claim.is_some_and(|claim| !claim.is_at_maximum);
        let was_held = state.item(old) == Item::Pending && !self.has(Condition::ReplaceOnlyTheHeld);
        let old_holds = (held && has_same_end) || was_held;
        let new_holds = match state.item(new) {
            Item::Available => true,
            Item::Absent => false,
            _ => !self.has(Condition::ReplaceByAnAvailable),
        };
        let claim_holds =
            claim.is_some() && (is_below || !self.has(Condition::ReplaceBelowTheMaximum));
        let on_its_own = !self.has(Condition::ReplaceAllOrNothing);
        let is_won = old_holds && new_holds && claim_holds;
        let was_at_maximum = state.have_replaced[at];
        if is_won || (on_its_own && old_holds) {
            state.set(old, Item::Pending);
        }
        if is_won || (on_its_own && new_holds) {
            let sandbox = &mut state.sandboxes[usize::from(new)];
            if sandbox.had_holder {
                return Err(Promise::NeverReused);
            }
            sandbox.had_holder = true;
            (sandbox.item, sandbox.end) = (Item::Allocated(pair), saw);
        }
        if is_won || (on_its_own && claim_holds) {
            state.claims[at] = Some(Claim {
                is_at_maximum: true,
                ..Claim::to(new)
            });
            state.have_replaced[at] = true;
        }
        let had_one = held && claim.is_some();
        if is_won && !had_one {
            return Err(Promise::ReplacesOnlyTheHeld);
        }
        if held && !(state.holds(pair, old) ^ state.holds(pair, new)) {
            return Err(Promise::LeavesExactlyOne);
        }
        if is_won && saw < end {
            return Err(Promise::ExtensionHolds);
        }
        if is_won && was_at_maximum {
            return Err(Promise::AtMostTheMaximum);
        }
        Ok(
            match (old_holds && claim.is_some(), claim_holds, new_holds) {
                (true, true, true) => Exchange::Won,
                (true, false, _) => Exchange::AtMaximum,
                (true, true, false) => Exchange::NewLost,
                (false, ..) => Exchange::OldLost,
            },
        )
    }

    /// No candidate is left for a replacement.
    pub fn find_none(&self, state: &mut State, client: u8) -> Option<Result<(), Promise>> {
        let at = usize::from(client);
        let Phase::Replacing { old, .. } = state.clients[at].phase else {
            return None;
        };
        if self.has(Condition::ReadAgainBeforeRefusing) {
            state.clients[at].phase = Phase::ReadingOld { old, is_last: true };
            return Some(Ok(()));
        }
        state.clients[at].phase = Phase::Answered;
        Some(if state.holds(PAIR_OF[at], old) {
            Ok(())
        } else {
            Err(Promise::RefusedKeepsTheOld)
        })
    }
}

/// The client's next request is a replacement.
pub fn ask_replacement(state: &mut State, client: u8, old: u8) -> Option<Result<(), Promise>> {
    let client = &mut state.clients[usize::from(client)];
    client.retries = client.retries.checked_sub(1)?;
    client.phase = Phase::ReadingOld {
        old,
        is_last: false,
    };
    Some(Ok(()))
}

/// Reads the sandbox to be replaced. If its pair does not hold it, the claim says what the pair holds instead.
pub fn read_old(state: &mut State, client: u8) -> Option<Result<(), Promise>> {
    let at = usize::from(client);
    let Phase::ReadingOld { old, is_last } = state.clients[at].phase else {
        return None;
    };
    state.clients[at].phase = match (state.holds(PAIR_OF[at], old), is_last) {
        (true, false) => Phase::Replacing {
            old,
            saw: state.end(old),
        },
        // Refused, and it keeps the old one.
        (true, true) => Phase::Answered,
        (false, _) => Phase::Replaced,
    };
    Some(Ok(()))
}

/// The database removes a claim whose end is long over: it ends after its allocation, unless an extension left it behind.
pub fn lose_claim(state: &mut State, pair: u8) -> Option<Result<(), Promise>> {
    let claim = state.claims[usize::from(pair)]?;
    let is_over = claim.is_outlived || !state.holds(pair, claim.sandbox);
    is_over.then(|| {
        state.claims[usize::from(pair)] = None;
        Ok(())
    })
}
