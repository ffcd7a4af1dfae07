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
    /// Never allocated; its account is not known to be usable.
    Provisioning,
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
    reason = "each is a fact of its own, and most combinations occur"
)]
pub struct Sandbox {
    pub item: Item,
    pub has_tombstone: bool,
    /// A cleanup has read it as due for deletion and may act on that.
    pub is_due: bool,
    /// It was inserted as `provisioning`, and no check has found its account usable since.
    pub is_unchecked: bool,
    /// It was allocated before. Not part of the table.
    pub had_holder: bool,
    /// How often the end of its allocation has been moved to a later time.
    pub end: u8,
}

/// The latest end of an allocation.
pub const LATEST: u8 = 2;

/// A claim of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The sandbox that it points at.
    pub sandbox: u8,
    /// It counts as many replacements as the lab allows.
    pub is_at_maximum: bool,
    /// The allocation that it points at has been extended, and it has not. The database removes it some time after its
    /// end.
    pub is_outlived: bool,
}

impl Claim {
    pub const fn to(sandbox: u8) -> Self {
        Self {
            sandbox,
            is_at_maximum: false,
            is_outlived: false,
        }
    }

    fn number(self) -> u128 {
        1 + (u128::from(self.sandbox) << 2
            | u128::from(self.is_at_maximum) << 1
            | u128::from(self.is_outlived))
    }
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
    /// No candidate is left, and the pair does not hold that sandbox. Next, it reads the claim again.
    Refusing { pointer: u8 },
    /// Next, it expires that sandbox, with the end that it has read.
    Expiring { pointer: u8, is_last: bool, saw: u8 },
    /// A replacement. Next, it reads the old sandbox. If `is_last`, no candidate is left.
    ReadingOld { old: u8, is_last: bool },
    /// Next, it replaces the old one, with the end that it has read, by a candidate or finds that there is none.
    Replacing { old: u8, saw: u8 },
    /// Its caller does not hold the old one any more. Next, it reads the claim of its pair.
    Replaced,
    /// Next, it reads the sandbox that the claim points at.
    Following { pointer: u8 },
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
    /// The claim of each pair.
    pub claims: [Option<Claim>; PAIRS as usize],
    /// Which pairs have replaced the sandbox that they hold as often as their lab allows. Not part of the table.
    pub have_replaced: [bool; PAIRS as usize],
    pub clients: [Client; CLIENTS as usize],
    /// Transactions that were sent: a bit for each pair, sandbox and precondition. Each may arrive at any later time.
    pub sent: u16,
}

impl State {
    /// Returns an initial state. The first pair may have a claim.
    pub fn with(items: [Item; SANDBOXES as usize], claim: Option<Claim>) -> Self {
        let sandbox = |item| Sandbox {
            item,
            has_tombstone: false,
            is_due: false,
            is_unchecked: false,
            had_holder: matches!(item, Item::UsedAndStale | Item::Allocated(_)),
            end: 0,
        };
        let client = |retries| Client {
            phase: Phase::Choosing(ClaimPrecondition::New),
            retries,
            was_free: false,
        };
        Self {
            sandboxes: items.map(sandbox),
            claims: [claim, None],
            have_replaced: [claim.is_some_and(|claim| claim.is_at_maximum), false],
            clients: RETRIES.map(client),
            sent: 0,
        }
        .settled()
    }

    pub fn item(&self, sandbox: u8) -> Item {
        self.sandboxes
            .get(usize::from(sandbox))
            .map_or(Item::Absent, |sandbox| sandbox.item)
    }

    pub fn end(&self, sandbox: u8) -> u8 {
        self.sandboxes
            .get(usize::from(sandbox))
            .map_or(0, |sandbox| sandbox.end)
    }

    pub fn set(&mut self, sandbox: u8, item: Item) {
        self.sandboxes[usize::from(sandbox)].item = item;
    }

    pub fn holds_nothing(&self, pair: u8) -> bool {
        !(0..SANDBOXES).any(|sandbox| self.holds(pair, sandbox))
    }

    pub fn holds(&self, pair: u8, sandbox: u8) -> bool {
        self.item(sandbox) == Item::Allocated(pair)
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
            client.was_free = client.phase.is_allocation() && (client.was_free || is_free);
        }
        for sandbox in &mut self.sandboxes {
            if !matches!(sandbox.item, Item::Allocated(_)) {
                sandbox.end = 0;
            }
            if matches!(sandbox.item, Item::Absent | Item::Pending | Item::Failed) {
                sandbox.is_unchecked = false;
            }
        }
        for pair in 0..PAIRS {
            let at = usize::from(pair);
            match self.claims[at] {
                Some(claim) if self.holds(pair, claim.sandbox) => {}
                leftover => {
                    self.claims[at] = leftover.map(|claim| Claim::to(claim.sandbox));
                    self.have_replaced[at] &= !self.holds_nothing(pair);
                }
            }
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
    pub fn number(&self) -> u128 {
        let mut number = u128::from(self.sent);
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
                Item::Provisioning => 8,
                Item::Allocated(pair) => 9 + u128::from(pair),
            };
            number = number << 10
                | item << 6
                | u128::from(sandbox.is_unchecked) << 5
                | u128::from(sandbox.has_tombstone) << 4
                | u128::from(sandbox.is_due) << 3
                | u128::from(sandbox.had_holder) << 2
                | u128::from(sandbox.end);
        }
        for (claim, has_replaced) in self.claims.iter().zip(self.have_replaced) {
            number = number << 5 | claim.map_or(0, Claim::number) << 1 | u128::from(has_replaced);
        }
        for client in &self.clients {
            number = number << 9
                | client.phase.number() << 3
                | u128::from(client.retries) << 1
                | u128::from(client.was_free);
        }
        number
    }
}

impl Phase {
    fn number(self) -> u128 {
        let of = |pointer: u8, is_last: bool| u128::from(pointer) << 1 | u128::from(is_last);
        match self {
            Self::Answered => 0,
            Self::Choosing(precondition) => 1 + u128::from(precondition.number()),
            Self::Resolving { pointer, is_last } => 5 + of(pointer, is_last),
            Self::Expiring {
                pointer,
                is_last,
                saw,
            } => 11 + (of(pointer, is_last) << 2 | u128::from(saw)),
            Self::ReadingOld { old, is_last } => 35 + of(old, is_last),
            Self::Replacing { old, saw } => 39 + (u128::from(old) << 2 | u128::from(saw)),
            Self::Replaced => 47,
            Self::Following { pointer } => 48 + u128::from(pointer),
            Self::Refusing { pointer } => 51 + u128::from(pointer),
        }
    }

    /// Returns whether the request is an allocation.
    pub const fn is_allocation(self) -> bool {
        matches!(
            self,
            Self::Choosing(_)
                | Self::Resolving { .. }
                | Self::Refusing { .. }
                | Self::Expiring { .. }
        )
    }
}
