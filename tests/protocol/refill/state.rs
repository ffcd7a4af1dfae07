//! A state of refill: the creations of one pool, their accounts and sandboxes, and two runs.

/// How many creations the counter of names permits.
pub const CREATIONS: u8 = 2;
/// The largest target.
pub const LARGEST: u8 = 2;
/// The run that holds the lease, and an earlier one that does not know that it has lost it.
pub const RUNS: u8 = 2;
pub const CURRENT: u8 = 0;

/// The item of a creation. The bound of names makes `Unused` those that the counter has not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    Unused,
    Intended,
    Attempted,
    Created,
    Listed,
    Dropped,
}

/// The account with the name of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    None,
    Exists,
    Deleted,
}

/// The sandbox of that account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    Absent,
    /// In `provisioning` or `available`.
    Ready,
    /// Allocated, or about to be deleted.
    Used,
    /// Stale or in quarantine. It may return.
    Aside,
    /// Deleted with its account. Its tombstone remains.
    Gone,
}

/// One creation and all that came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub creation: Creation,
    pub account: Account,
    pub sandbox: Sandbox,
    /// A read that is not consistent shows its creation or sandbox.
    pub is_shown: bool,
    /// Its sandbox was set aside and has returned. Not part of the table.
    pub has_returned: bool,
    /// Requests for its account that may still take effect.
    pub flying: u8,
}

/// The step of a run for a creation, with the answers that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Todo {
    Nothing,
    /// It has an account, which counts unless its sandbox does.
    UnderWay,
    Intended {
        is_wanted: bool,
    },
    /// It was attempted, and may have an account.
    Attempted,
    /// It was attempted, and has no account.
    NotFound {
        is_wanted: bool,
    },
}

/// The progress of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Started,
    /// It has read the sandboxes first.
    HasSandboxes,
    /// It has read the creations. Next, it finds the accounts of those that may have one.
    Resolving,
    Working,
    /// It has written that it attempts this creation, and sends the request next.
    Sending(u8),
    /// It waits for the answer.
    Waiting(u8),
    /// CSP has refused. It writes that next.
    Refused(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub phase: Phase,
    pub todo: [Todo; CREATIONS as usize],
    /// The sandboxes that it has read, if it reads them first.
    pub seen: [Sandbox; CREATIONS as usize],
    /// How many new creations it may still begin.
    pub new: u8,
    /// It has waited until no request of an earlier run can take effect any more.
    pub is_settled: bool,
    /// The target when it counted.
    pub target: u8,
    /// Creations that it has begun, a bit for each.
    pub began: u8,
}

impl Run {
    pub const fn started() -> Self {
        Self {
            phase: Phase::Started,
            todo: [Todo::Nothing; CREATIONS as usize],
            seen: [Sandbox::Absent; CREATIONS as usize],
            new: 0,
            is_settled: false,
            target: 0,
            began: 0,
        }
    }

    /// A run that has lost its lease, of which only the request that it sends next matters.
    pub const fn sending(at: u8) -> Self {
        Self {
            phase: Phase::Sending(at),
            ..Self::started()
        }
    }

    fn has_nothing_to_do(&self) -> bool {
        self.phase == Phase::Working
            && self.new == 0
            && self.todo == [Todo::Nothing; CREATIONS as usize]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub entries: [Entry; CREATIONS as usize],
    pub runs: [Option<Run>; RUNS as usize],
    /// The target, or the largest total.
    pub target: u8,
    /// The bound counts sandboxes until they are deleted, as `max_total` does.
    pub is_total: bool,
    /// The largest target that a run or a request may still obey.
    pub in_force: u8,
}

impl State {
    /// Returns a state without creations.
    pub fn with(target: u8, is_total: bool) -> Self {
        let entry = Entry {
            creation: Creation::Unused,
            account: Account::None,
            sandbox: Sandbox::Absent,
            is_shown: false,
            has_returned: false,
            flying: 0,
        };
        Self {
            entries: [entry; CREATIONS as usize],
            runs: [None; RUNS as usize],
            target,
            is_total,
            in_force: target,
        }
    }

    pub fn entry(&mut self, number: u8) -> &mut Entry {
        &mut self.entries[usize::from(number)]
    }

    pub fn run(&self, slot: u8) -> Option<Run> {
        self.runs[usize::from(slot)]
    }

    /// Returns whether a sandbox counts towards the bound.
    pub fn counts(&self, sandbox: Sandbox) -> bool {
        match sandbox {
            Sandbox::Ready => true,
            Sandbox::Used => self.is_total,
            Sandbox::Absent | Sandbox::Aside | Sandbox::Gone => false,
        }
    }

    /// Returns how many creations are open or have a sandbox that counts, without those that have returned.
    pub fn open_and_ready(&self) -> usize {
        let counts = |entry: &&Entry| match (entry.creation, entry.sandbox) {
            (Creation::Unused | Creation::Dropped, Sandbox::Absent) => false,
            (_, Sandbox::Absent) => !entry.has_returned,
            (_, sandbox) => self.counts(sandbox) && !entry.has_returned,
        };
        self.entries.iter().filter(counts).count()
    }

    /// Returns how many accounts exist that nobody has used, without those that have returned.
    pub fn unused_accounts(&self) -> usize {
        let counts = |entry: &&Entry| {
            let is_unused = entry.sandbox == Sandbox::Absent || self.counts(entry.sandbox);
            entry.account == Account::Exists && is_unused && !entry.has_returned
        };
        self.entries.iter().filter(counts).count()
    }

    /// Returns whether every creation has ended, and there are as many sandboxes as wanted or no name is left.
    pub fn is_closed_and_full(&self) -> bool {
        let is_unused = |entry: &Entry| entry.creation == Creation::Unused;
        let is_closed = |entry: &Entry| {
            let is_over = matches!(entry.creation, Creation::Listed | Creation::Dropped);
            is_over || is_unused(entry)
        };
        let counted = self
            .entries
            .iter()
            .filter(|entry| self.counts(entry.sandbox));
        let is_full = counted.count() >= usize::from(self.target);
        self.entries.iter().all(is_closed) && (is_full || !self.entries.iter().any(is_unused))
    }

    /// Drops information that no longer matters, so that equal situations are equal states.
    pub fn settled(mut self) -> Self {
        for run in &mut self.runs {
            *run = run.filter(|run| !run.has_nothing_to_do());
        }
        for entry in &mut self.entries {
            if matches!(entry.sandbox, Sandbox::Used | Sandbox::Gone) {
                entry.is_shown = true;
                entry.has_returned &= self.is_total && entry.sandbox == Sandbox::Used;
            }
        }
        let obeyed = self
            .runs
            .iter()
            .flatten()
            .any(|run| run.phase != Phase::Started)
            || self.entries.iter().any(|entry| entry.flying > 0);
        if !obeyed {
            self.in_force = self.target;
        }
        self
    }

    /// Encodes the state as a number that is unique to it.
    pub fn number(&self) -> u128 {
        let mut number = u128::from(self.is_total);
        for entry in &self.entries {
            number = number << 12 | entry.number();
        }
        for run in &self.runs {
            number = number << 25 | run.map_or(0, |run| 1 + run.number());
        }
        for bound in [self.target, self.in_force] {
            number = number << 2 | u128::from(bound);
        }
        number
    }
}

impl Entry {
    fn number(self) -> u128 {
        let creation = match self.creation {
            Creation::Unused => 0,
            Creation::Intended => 1,
            Creation::Attempted => 2,
            Creation::Created => 3,
            Creation::Listed => 4,
            Creation::Dropped => 5,
        };
        creation << 9
            | (self.account as u128) << 7
            | (self.sandbox as u128) << 4
            | u128::from(self.is_shown) << 3
            | u128::from(self.has_returned) << 2
            | u128::from(self.flying)
    }
}

impl Run {
    fn number(self) -> u128 {
        let mut number = match self.phase {
            Phase::Started => 0,
            Phase::HasSandboxes => 1,
            Phase::Resolving => 2,
            Phase::Working => 3,
            Phase::Sending(number) => 4 + u128::from(number),
            Phase::Waiting(number) => 7 + u128::from(number),
            Phase::Refused(number) => 10 + u128::from(number),
        };
        for todo in self.todo {
            number = number << 3 | todo.number();
        }
        for sandbox in self.seen {
            number = number << 2
                | u128::from(sandbox != Sandbox::Absent) << 1
                | u128::from(sandbox == Sandbox::Ready);
        }
        for small in [self.new, self.target, self.began] {
            number = number << 2 | u128::from(small);
        }
        number << 1 | u128::from(self.is_settled)
    }
}

impl Todo {
    fn number(self) -> u128 {
        match self {
            Self::Nothing => 0,
            Self::UnderWay => 1,
            Self::Intended { is_wanted } => 2 + u128::from(is_wanted),
            Self::Attempted => 4,
            Self::NotFound { is_wanted } => 5 + u128::from(is_wanted),
        }
    }
}
