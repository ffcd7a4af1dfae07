//! A state of the system.

pub const SANDBOXES: u8 = 2;
/// A sandbox that was used and removed before the initial state. A claim may still point at it.
pub const LONG_GONE: u8 = 2;
pub const CLIENTS: u8 = 3;
/// The pair of each client. Two clients are one pair: concurrent retries of one request.
pub const PAIR_OF: [u8; CLIENTS as usize] = [0, 0, 1];
pub const PAIRS: u8 = 2;
/// How often each client repeats its request. `[2, 1, 1]` makes seven times as many states and breaks nothing else.
const RETRIES: [u8; CLIENTS as usize] = [1, 0, 0];

/// The item of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    Absent,
    Available,
    Allocated(u8),
    Pending,
    Failed,
    Stale,
    /// Stale although it had a holder: no broker produces one, but a table of another service may contain it.
    UsedAndStale,
    /// In quarantine, and its item names no holder.
    Quarantined,
    UsedAndQuarantined,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not depend on each other"
)]
pub struct Sandbox {
    pub item: Item,
    pub has_tombstone: bool,
    /// A cleanup has read it as due for deletion and may act on that.
    pub is_due: bool,
    /// It was allocated before. Not part of the table.
    pub had_holder: bool,
    /// The end of its allocation has been moved to a later time.
    pub is_extended: bool,
}

/// Which claim an allocation may overwrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimPrecondition {
    New,
    Leftover(u8),
}

impl ClaimPrecondition {
    pub const ALL: [Self; 4] = [
        Self::New,
        Self::Leftover(0),
        Self::Leftover(1),
        Self::Leftover(LONG_GONE),
    ];

    pub const fn number(self) -> u8 {
        match self {
            Self::New => 0,
            Self::Leftover(sandbox) => 1 + sandbox,
        }
    }
}

/// The progress of a request, which is lost when its broker dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The client has its answer.
    Answered,
    /// Next, it claims a candidate or finds that there is none.
    Choosing(ClaimPrecondition),
    /// Next, it reads the sandbox that the pair's claim points at. If `is_last`, no candidate is left.
    Resolving { pointer: u8, is_last: bool },
    /// Next, it expires that sandbox, with the end that it has read.
    Expiring {
        pointer: u8,
        is_last: bool,
        saw_extended: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub phase: Phase,
    /// How many requests may follow this one.
    pub retries: u8,
    /// At some moment of the request the pair held nothing.
    pub was_free: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub sandboxes: [Sandbox; SANDBOXES as usize],
    /// The sandbox that the claim of each pair points at.
    pub claims: [Option<u8>; PAIRS as usize],
    pub clients: [Client; CLIENTS as usize],
    /// Transactions that were sent: a bit for each pair, sandbox and precondition. Each may arrive at any later time.
    pub sent: u16,
}

impl State {
    /// Returns an initial state. The first pair may have a claim that points at no held sandbox.
    pub fn with(items: [Item; SANDBOXES as usize], claim: Option<u8>) -> Self {
        let sandbox = |item| Sandbox {
            item,
            has_tombstone: false,
            is_due: false,
            had_holder: item == Item::UsedAndStale,
            is_extended: false,
        };
        let client = |retries| Client {
            phase: Phase::Choosing(ClaimPrecondition::New),
            retries,
            was_free: true,
        };
        Self {
            sandboxes: items.map(sandbox),
            claims: [claim, None],
            clients: RETRIES.map(client),
            sent: 0,
        }
    }

    pub fn item(&self, sandbox: u8) -> Item {
        self.sandboxes
            .get(usize::from(sandbox))
            .map_or(Item::Absent, |sandbox| sandbox.item)
    }

    pub fn is_extended(&self, sandbox: u8) -> bool {
        self.sandboxes
            .get(usize::from(sandbox))
            .is_some_and(|sandbox| sandbox.is_extended)
    }

    pub fn set(&mut self, sandbox: u8, item: Item) {
        self.sandboxes[usize::from(sandbox)].item = item;
    }

    pub fn holds_nothing(&self, pair: u8) -> bool {
        let held = Item::Allocated(pair);
        self.sandboxes.iter().all(|sandbox| sandbox.item != held)
    }

    pub const fn bit(pair: u8, sandbox: u8, precondition: ClaimPrecondition) -> u16 {
        1 << ((sandbox * PAIRS + pair) * 4 + precondition.number())
    }

    /// Updates `was_free` after a step, and drops information that no longer matters so that equal situations are equal
    /// states.
    pub fn settled(mut self) -> Self {
        for (client, pair) in PAIR_OF.into_iter().enumerate() {
            let is_free = self.holds_nothing(pair);
            let client = &mut self.clients[client];
            client.was_free = client.phase != Phase::Answered && (client.was_free || is_free);
        }
        for sandbox in &mut self.sandboxes {
            sandbox.is_extended &= matches!(sandbox.item, Item::Allocated(_));
        }
        // A used sandbox is never allocated again. Any client that tries shows this as well as a late transaction.
        for (sandbox, used) in self.sandboxes.iter().enumerate() {
            if used.had_holder {
                self.sent &= !(0xFF << (sandbox * 8));
            }
        }
        self
    }

    /// Encodes the state as a number that is unique to it.
    pub fn number(&self) -> u64 {
        let mut number = u64::from(self.sent);
        for sandbox in &self.sandboxes {
            let item = match sandbox.item {
                Item::Absent => 0,
                Item::Available => 1,
                Item::Pending => 2,
                Item::Failed => 3,
                Item::Stale => 4,
                Item::UsedAndStale => 5,
                Item::Quarantined => 6,
                Item::UsedAndQuarantined => 7,
                Item::Allocated(pair) => 8 + u64::from(pair),
            };
            number = number << 8
                | item << 4
                | u64::from(sandbox.has_tombstone) << 3
                | u64::from(sandbox.is_due) << 2
                | u64::from(sandbox.had_holder) << 1
                | u64::from(sandbox.is_extended);
        }
        for claim in self.claims {
            number = number << 2 | claim.map_or(0, |sandbox| 1 + u64::from(sandbox));
        }
        for client in &self.clients {
            number = number << 8
                | client.phase.number() << 3
                | u64::from(client.retries) << 1
                | u64::from(client.was_free);
        }
        number
    }
}

impl Phase {
    pub fn number(self) -> u64 {
        let of = |pointer: u8, is_last: bool| u64::from(pointer) << 1 | u64::from(is_last);
        match self {
            Self::Answered => 0,
            Self::Choosing(precondition) => 1 + u64::from(precondition.number()),
            Self::Resolving { pointer, is_last } => 5 + of(pointer, is_last),
            Self::Expiring {
                pointer,
                is_last,
                saw_extended,
            } => 11 + (of(pointer, is_last) << 1 | u64::from(saw_extended)),
        }
    }
}
