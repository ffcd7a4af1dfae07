//! The steps of refill.

use super::state::{CREATIONS, CURRENT, LARGEST, RUNS};

/// One atomic operation of the tables or of CSP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A run takes the lease, from one that has ended, crashed, or will find out later.
    Start,
    /// The run in this slot goes on.
    Run { run: u8, step: RunStep },
    /// Something happens to a creation, its account or its sandbox, by another hand.
    Event { at: u8, event: Event },
    /// The target changes: the policy, or a schedule.
    SetTarget { target: u8 },
}

/// A step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStep {
    /// It ends, or its process dies.
    End,
    /// It reads the creations.
    ReadCreations,
    /// It reads the sandboxes.
    ReadSandboxes,
    /// It has waited for the settle time.
    Settle,
    /// It writes a new creation.
    Intend,
    /// It finds the account by its name and notes its id, or finds none.
    Find { at: u8 },
    /// It writes that it attempts the creation.
    Attempt { at: u8 },
    /// It sends the request.
    Send,
    /// It receives the answer, and notes the id.
    Note,
    /// It receives no answer, or one that does not say whether the account exists.
    MissAnswer,
    /// CSP refuses the request.
    Refuse,
    /// It writes that CSP has refused.
    NoteRefusal,
    /// It drops a creation without an account that is no longer wanted.
    Drop { at: u8 },
    /// It drops a creation whose account is gone.
    DropGone { at: u8 },
}

/// Something that happens to a creation, its account or its sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The write of a new creation arrives again.
    IntendAgain,
    /// A request takes effect.
    TakeEffect,
    /// A request never arrives.
    Lose,
    /// Sync, whose list has the account, notes its id.
    Adopt,
    /// Sync inserts the sandbox.
    Insert,
    /// Sync marks the creation as listed.
    MarkListed,
    /// Reads that are not consistent show a new creation or sandbox from now on.
    Show,
    /// A caller allocates the sandbox.
    Use,
    /// The sandbox is deleted, with its account.
    Delete,
    /// The sandbox becomes stale or is quarantined.
    SetAside,
    /// It returns.
    Return,
    /// Somebody deletes the account in CSP before a sync inserts it.
    Vanish,
}

impl Step {
    /// All but two: a repeated write changes nothing if the condition of the write holds, and consistent reads show
    /// everything at once.
    pub const KINDS: usize = 26;

    /// Returns every step.
    pub fn all() -> Vec<Self> {
        let of_runs = (0..RUNS).flat_map(|run| {
            let steps = RunStep::all();
            steps.map(move |step| Self::Run { run, step })
        });
        let events =
            (0..CREATIONS).flat_map(|at| Event::ALL.map(move |event| Self::Event { at, event }));
        let targets = (0..=LARGEST).map(|target| Self::SetTarget { target });
        of_runs
            .chain(events)
            .chain(targets)
            .chain([Self::Start])
            .collect()
    }

    /// Returns the steps of a recovery, in the order in which the first possible one is taken.
    pub fn of_recovery() -> Vec<Self> {
        let of_run = |step| Self::Run { run: CURRENT, step };
        let drop_gone = (0..CREATIONS).map(|at| of_run(RunStep::DropGone { at }));
        let events = |event| (0..CREATIONS).map(move |at| Self::Event { at, event });
        drop_gone
            .chain(events(Event::TakeEffect))
            .chain(RunStep::all().filter(|step| !step.is_fault()).map(of_run))
            .chain(
                [Event::Adopt, Event::Insert, Event::MarkListed, Event::Show]
                    .into_iter()
                    .flat_map(events),
            )
            .chain([of_run(RunStep::End), Self::Start])
            .collect()
    }

    pub const fn kind(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::SetTarget { .. } => "set target",
            Self::Run { step, .. } => step.kind(),
            Self::Event { event, .. } => event.kind(),
        }
    }
}

impl RunStep {
    fn all() -> impl Iterator<Item = Self> {
        let of_creation = |at| {
            [
                Self::Find { at },
                Self::Attempt { at },
                Self::Drop { at },
                Self::DropGone { at },
            ]
        };
        let others = [
            Self::ReadCreations,
            Self::ReadSandboxes,
            Self::Settle,
            Self::Send,
            Self::Note,
            Self::MissAnswer,
            Self::Refuse,
            Self::NoteRefusal,
            Self::Intend,
            Self::End,
        ];
        (0..CREATIONS).flat_map(of_creation).chain(others)
    }

    /// Returns whether a run without faults does without this step.
    const fn is_fault(self) -> bool {
        matches!(self, Self::End | Self::MissAnswer | Self::Refuse)
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::ReadCreations => "read creations",
            Self::ReadSandboxes => "read sandboxes",
            Self::Settle => "settle",
            Self::Intend => "intend",
            Self::Find { .. } => "find",
            Self::Attempt { .. } => "attempt",
            Self::Send => "send",
            Self::Note => "note",
            Self::MissAnswer => "miss the answer",
            Self::Refuse => "refuse",
            Self::NoteRefusal => "note the refusal",
            Self::Drop { .. } => "drop",
            Self::DropGone { .. } => "drop a gone one",
        }
    }
}

impl Event {
    const ALL: [Self; 12] = [
        Self::IntendAgain,
        Self::TakeEffect,
        Self::Lose,
        Self::Adopt,
        Self::Insert,
        Self::MarkListed,
        Self::Show,
        Self::Use,
        Self::Delete,
        Self::SetAside,
        Self::Return,
        Self::Vanish,
    ];

    const fn kind(self) -> &'static str {
        match self {
            Self::IntendAgain => "intend again",
            Self::TakeEffect => "take effect",
            Self::Lose => "lose",
            Self::Adopt => "adopt",
            Self::Insert => "insert",
            Self::MarkListed => "mark as listed",
            Self::Show => "show",
            Self::Use => "use",
            Self::Delete => "delete",
            Self::SetAside => "set aside",
            Self::Return => "return",
            Self::Vanish => "vanish",
        }
    }
}
