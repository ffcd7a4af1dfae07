//! The steps of a run.

use super::{
    super::promise::{Condition, Promise},
    Refill,
    state::{Account, CREATIONS, CURRENT, Creation, Entry, Phase, RUNS, Run, Sandbox, State, Todo},
    step::RunStep,
};

type Taken = Option<Result<(), Promise>>;

impl Refill {
    /// Takes a step of the run in this slot.
    pub fn step_of_run(&self, state: &mut State, slot: u8, step: RunStep) -> Taken {
        let mut run = state.run(slot)?;
        let taken = match step {
            RunStep::End => {
                state.runs[usize::from(slot)] = None;
                return Some(Ok(()));
            }
            RunStep::ReadCreations => self.read_creations(state, &mut run),
            RunStep::ReadSandboxes => self.read_sandboxes(state, &mut run),
            RunStep::Settle => self.settle(state, slot, &mut run),
            RunStep::Intend => self.intend(state, slot, &mut run),
            RunStep::Find { at } => self.find(state, slot, &mut run, at),
            RunStep::Attempt { at } => self.attempt(state, slot, &mut run, at),
            RunStep::Drop { at } => self.drop_unwanted(state, slot, &mut run, at),
            RunStep::DropGone { at } => self.drop_gone(state, slot, run, at),
            RunStep::Send => send(state, &mut run),
            RunStep::Note | RunStep::MissAnswer | RunStep::Refuse | RunStep::NoteRefusal => {
                self.answer(state, slot, &mut run, step)
            }
        };
        state.runs[usize::from(slot)] = Some(run);
        taken
    }

    /// Returns whether the writes of the run in this slot hold its lease.
    fn may_write(&self, slot: u8) -> bool {
        slot == CURRENT || !self.has(Condition::FenceOfRefill)
    }

    fn read_creations(&self, state: &State, run: &mut Run) -> Taken {
        let is_first = self.has(Condition::CreationsBeforeSandboxes);
        let at = if is_first {
            Phase::Started
        } else {
            Phase::HasSandboxes
        };
        (run.phase == at).then(|| {
            run.todo = state.entries.map(|entry| self.known(entry));
            run.phase = Phase::Resolving;
            Ok(())
        })
    }

    /// Returns what a run reads of a creation.
    fn known(&self, entry: Entry) -> Todo {
        let is_under_way = match entry.creation {
            Creation::Intended
                if entry.is_shown || self.has(Condition::ReadCreationsConsistently) =>
            {
                return Todo::Intended { is_wanted: false };
            }
            Creation::Attempted => return Todo::Attempted,
            Creation::Created => self.has(Condition::CountCreated),
            _ => false,
        };
        if is_under_way {
            Todo::UnderWay
        } else {
            Todo::Nothing
        }
    }

    fn read_sandboxes(&self, state: &State, run: &mut Run) -> Taken {
        let is_second = self.has(Condition::CreationsBeforeSandboxes);
        if is_second || run.phase == Phase::Started {
            let is_consistent = self.has(Condition::ReadSandboxesConsistently);
            run.seen = state.entries.map(|entry| match entry.sandbox {
                Sandbox::Gone => Sandbox::Absent,
                sandbox if entry.is_shown || is_consistent => sandbox,
                _ => Sandbox::Absent,
            });
        }
        let is_resolved = !run.todo.contains(&Todo::Attempted);
        match run.phase {
            Phase::Started if !is_second => run.phase = Phase::HasSandboxes,
            Phase::Resolving if is_resolved || !self.has(Condition::ResolveBeforeCounting) => {
                plan(state, run);
            }
            _ => return None,
        }
        Some(Ok(()))
    }

    /// After the settle time, no request of an earlier run can take effect any more, and none can still be sent.
    fn settle(&self, state: &mut State, slot: u8, run: &mut Run) -> Taken {
        let attempted = state.entries.iter().zip(run.todo);
        let mut attempted = attempted.filter(|(_, todo)| *todo == Todo::Attempted);
        let is_needed = attempted.clone().next().is_some();
        if run.is_settled || !is_needed || attempted.any(|(entry, _)| entry.flying > 0) {
            return None;
        }
        run.is_settled = true;
        let earlier = &mut state.runs[usize::from(RUNS - 1 - slot)];
        if self.has(Condition::SendInTime) {
            *earlier = earlier.filter(|run| !matches!(run.phase, Phase::Sending(_)));
        }
        Some(Ok(()))
    }

    fn intend(&self, state: &mut State, slot: u8, run: &mut Run) -> Taken {
        if run.phase != Phase::Working || run.new == 0 || !self.may_write(slot) {
            return None;
        }
        let at = (0..CREATIONS).find(|at| state.entry(*at).creation == Creation::Unused)?;
        state.entry(at).creation = Creation::Intended;
        run.todo[usize::from(at)] = Todo::Intended { is_wanted: true };
        run.new -= 1;
        if !self.has(Condition::IntendOnlyNew) {
            run.began |= 1 << at;
        }
        let is_too_many = state.open_and_ready() > usize::from(state.in_force);
        Some(if is_too_many {
            Err(Promise::NoMoreThanTheTarget)
        } else {
            Ok(())
        })
    }

    fn find(&self, state: &mut State, slot: u8, run: &mut Run, at: u8) -> Taken {
        let todo = &mut run.todo[usize::from(at)];
        let is_time = run.phase == Phase::Resolving
            || (run.phase == Phase::Working && !self.has(Condition::ResolveBeforeCounting));
        let is_possible = is_time && *todo == Todo::Attempted;
        let has_waited = run.is_settled || !self.has(Condition::SettleBeforeFinding);
        if !is_possible || !has_waited || !self.may_write(slot) {
            return None;
        }
        let entry = state.entry(at);
        *todo = match entry.account {
            Account::Exists if self.has(Condition::FindBeforeCreatingAgain) => {
                if entry.creation == Creation::Attempted {
                    entry.creation = Creation::Created;
                }
                Todo::UnderWay
            }
            _ => Todo::NotFound {
                is_wanted: run.phase == Phase::Working,
            },
        };
        Some(Ok(()))
    }

    fn attempt(&self, state: &mut State, slot: u8, run: &mut Run, at: u8) -> Taken {
        let todo = &mut run.todo[usize::from(at)];
        let read = match *todo {
            Todo::Intended { is_wanted: true } => Creation::Intended,
            Todo::NotFound { is_wanted: true } => Creation::Attempted,
            _ => return None,
        };
        if run.phase != Phase::Working || !self.may_write(slot) {
            return None;
        }
        *todo = Todo::Nothing;
        let creation = &mut state.entry(at).creation;
        if *creation != read && self.has(Condition::AttemptOnlyAsRead) {
            return Some(Ok(()));
        }
        if self.has(Condition::AttemptBeforeTheRequest) {
            *creation = Creation::Attempted;
        }
        run.phase = Phase::Sending(at);
        Some(Ok(()))
    }

    fn drop_unwanted(&self, state: &mut State, slot: u8, run: &mut Run, at: u8) -> Taken {
        let todo = &mut run.todo[usize::from(at)];
        let read = match *todo {
            Todo::Intended { is_wanted: false } => Creation::Intended,
            Todo::NotFound { is_wanted: false } => Creation::Attempted,
            _ => return None,
        };
        if run.phase != Phase::Working || !self.may_write(slot) {
            return None;
        }
        *todo = Todo::Nothing;
        let creation = &mut state.entry(at).creation;
        if *creation == read {
            *creation = Creation::Dropped;
        }
        Some(Ok(()))
    }

    /// Drops a creation whose account existed and is gone.
    fn drop_gone(&self, state: &mut State, slot: u8, run: Run, at: u8) -> Taken {
        let entry = state.entry(at);
        let is_gone = entry.creation == Creation::Created && entry.account == Account::Deleted;
        let is_possible = run.phase == Phase::Started && self.may_write(slot);
        (is_gone && is_possible && self.has(Condition::DropTheGone)).then(|| {
            entry.creation = Creation::Dropped;
            Ok(())
        })
    }

    /// The end of a request, as the run learns of it.
    fn answer(&self, state: &mut State, slot: u8, run: &mut Run, step: RunStep) -> Taken {
        let (Phase::Waiting(at) | Phase::Refused(at)) = run.phase else {
            return None;
        };
        let is_waiting = run.phase == Phase::Waiting(at);
        let may_write = self.may_write(slot);
        let entry = state.entry(at);
        let may_exist = entry.flying == 0 && entry.account != Account::None;
        run.phase = match step {
            RunStep::Note if is_waiting && may_exist => {
                let is_attempted = entry.creation == Creation::Attempted;
                let is_intended = entry.creation == Creation::Intended;
                let is_open =
                    is_attempted || (is_intended && !self.has(Condition::AttemptBeforeTheRequest));
                if is_open && may_write {
                    entry.creation = Creation::Created;
                }
                Phase::Working
            }
            RunStep::MissAnswer if is_waiting => {
                if self.has(Condition::OnlyARefusalProves) {
                    Phase::Working
                } else {
                    Phase::Refused(at)
                }
            }
            RunStep::Refuse if is_waiting && entry.flying > 0 => {
                entry.flying -= 1;
                Phase::Refused(at)
            }
            RunStep::NoteRefusal if !is_waiting => {
                if may_write && entry.creation == Creation::Attempted {
                    entry.creation = Creation::Intended;
                }
                Phase::Working
            }
            _ => return None,
        };
        Some(Ok(()))
    }
}

fn send(state: &mut State, run: &mut Run) -> Taken {
    let Phase::Sending(at) = run.phase else {
        return None;
    };
    let entry = state.entry(at);
    if entry.flying == 3 {
        return None;
    }
    entry.flying += 1;
    run.phase = Phase::Waiting(at);
    Some(Ok(()))
}

/// Counts, and decides how many accounts are wanted: first of open creations without an account, then of new ones.
fn plan(state: &State, run: &mut Run) {
    let counted = run.seen.iter().filter(|seen| state.counts(**seen)).count();
    let under_way = run.todo.iter().zip(run.seen).filter(|(todo, seen)| {
        let has_account = matches!(todo, Todo::UnderWay | Todo::Attempted);
        has_account && *seen == Sandbox::Absent
    });
    let mut wanted = usize::from(state.target).saturating_sub(counted + under_way.count());
    for todo in &mut run.todo {
        match todo {
            Todo::Intended { is_wanted } | Todo::NotFound { is_wanted } => {
                *is_wanted = wanted > 0;
                wanted = wanted.saturating_sub(1);
            }
            Todo::UnderWay => *todo = Todo::Nothing,
            Todo::Nothing | Todo::Attempted => {}
        }
    }
    run.new = u8::try_from(wanted).unwrap();
    run.seen = [Sandbox::Absent; CREATIONS as usize];
    (run.target, run.phase) = (state.target, Phase::Working);
}
