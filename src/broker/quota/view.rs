//! The slots of one lab's quota, as one broker knows them. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::permitted_slots,
    store::{AllocationRef, AllocationStates, StoredSlot},
};

/// How old a read may be while a new policy settles. After it, one read is enough for good.
const MAX_AGE_WHILE_SETTLING: Duration = Duration::from_secs(5);
/// How old a read may be once an attempt has shown that another broker allocates to the lab as well. A read costs less
/// than a few attempts.
const MAX_AGE_AFTER_CONFLICT: Duration = Duration::from_secs(10);
/// From how many free slots a broker chooses. With more, brokers conflict less; with fewer, there are fewer items to read.
const SPREAD: usize = 500;

/// The quota of a lab.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    /// How many sandboxes the lab may hold.
    pub(super) max: u32,
    /// The number of the policy that states it. An equal quota of another policy is a new one: between them the lab may
    /// have had none.
    pub(super) policy: u64,
}

/// The slots of a lab, as far as this broker knows.
#[derive(Debug)]
pub(super) struct View {
    /// That of the latest policy.
    quota: Quota,
    /// When this broker first saw it.
    quota_since: Instant,
    /// How long after that other brokers may allocate by an earlier policy.
    settling: Duration,
    /// The slots that have an item.
    slots: BTreeMap<u32, StoredSlot>,
    /// Those of them whose allocation has not ended.
    taken: BTreeSet<u32>,
    /// The slots that requests of this broker are taking.
    reserved: BTreeSet<u32>,
    /// The start of the last read.
    read: Option<Instant>,
    /// The slots that attempts have shown since the start of the last read: they are newer than what it returns.
    shown: BTreeSet<u32>,
    /// Whether an attempt since the last read has found its slot taken.
    is_outdated: bool,
}

/// The next step of a request that needs a slot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// It takes this slot, which is reserved for it. The slot points to an allocation that has ended, or to none.
    Take(u32, Option<AllocationRef>),
    /// It waits: other requests of this broker are taking all slots that are free.
    Wait,
    /// It needs a read of the slots that began at this time or later.
    Read(Instant),
    /// It is refused: the lab holds so many sandboxes.
    Reached(u64),
}

impl View {
    pub(super) const fn new(quota: Quota, settling: Duration, now: Instant) -> Self {
        Self {
            quota,
            quota_since: now,
            settling,
            slots: BTreeMap::new(),
            taken: BTreeSet::new(),
            reserved: BTreeSet::new(),
            read: None,
            shown: BTreeSet::new(),
            is_outdated: false,
        }
    }

    /// Returns the start of the last read of the slots.
    pub(super) const fn read(&self) -> Option<Instant> {
        self.read
    }

    /// Notes the quota of a request, and returns when a read of the lab's allocations must have begun at the earliest. The
    /// quota of a request that began under an earlier policy is no longer in force.
    pub(super) fn oldest_read(&mut self, quota: Quota, now: Instant) -> Instant {
        if quota.policy > self.quota.policy {
            (self.quota, self.quota_since) = (quota, now);
        }
        let settled = self.quota_since + self.settling;
        if now < settled {
            before(now, MAX_AGE_WHILE_SETTLING).max(self.quota_since)
        } else {
            settled
        }
    }

    /// Chooses for a request that began at `since`. `oldest` is from [`oldest_read`](Self::oldest_read), `without_slot`
    /// the number of the lab's allocations without a slot. `random` returns a number below its argument.
    pub(super) fn choose(
        &mut self,
        since: Instant,
        oldest: Instant,
        without_slot: u64,
        now: Instant,
        random: impl FnOnce(usize) -> usize,
    ) -> Choice {
        let oldest = if self.is_outdated {
            oldest.max(before(now, MAX_AGE_AFTER_CONFLICT))
        } else {
            oldest
        };
        if self.read.is_none_or(|read| read < oldest) {
            return Choice::Read(oldest);
        }
        let permitted = permitted_slots(self.quota.max, &self.taken, without_slot);
        let mut is_one_reserved = false;
        let free: Vec<u32> = permitted
            .filter(|slot| {
                let is_reserved = self.reserved.contains(slot);
                is_one_reserved |= is_reserved;
                !is_reserved
            })
            .take(SPREAD)
            .collect();
        if !free.is_empty() {
            let slot = free[random(free.len())];
            self.reserved.insert(slot);
            return Choice::Take(slot, self.leftover(slot).cloned());
        }
        if is_one_reserved {
            Choice::Wait
        } else if self.read.is_none_or(|read| read < since) {
            Choice::Read(since)
        } else {
            let slots = u64::try_from(self.taken.len()).unwrap_or(u64::MAX);
            Choice::Reached(slots.saturating_add(without_slot))
        }
    }

    /// Returns the ended allocation to which a free slot points.
    fn leftover(&self, slot: u32) -> Option<&AllocationRef> {
        match self.slots.get(&slot)? {
            StoredSlot::Taken(allocation) => Some(allocation),
            StoredSlot::Unreadable => None,
        }
    }

    /// Begins a read of the slots.
    pub(super) fn begin_read(&mut self) {
        self.shown.clear();
    }

    /// Returns the allocations of the slots just read, without those that have ended as far as this broker knows.
    pub(super) fn unknown<'a>(
        &self,
        stored: &'a BTreeMap<u32, StoredSlot>,
    ) -> impl Iterator<Item = &'a AllocationRef> {
        stored.iter().filter_map(|(slot, stored)| match stored {
            StoredSlot::Taken(allocation) if !self.is_leftover(*slot, stored) => Some(allocation),
            _ => None,
        })
    }

    /// Returns whether it is known that the allocation has ended to which the slot points.
    fn is_leftover(&self, slot: u32, stored: &StoredSlot) -> bool {
        !self.taken.contains(&slot) && self.slots.get(&slot) == Some(stored)
    }

    /// Ends a read that began at `began`.
    pub(super) fn end_read(
        &mut self,
        began: Instant,
        mut stored: BTreeMap<u32, StoredSlot>,
        states: &AllocationStates,
    ) {
        let has_ended = |stored: &StoredSlot| match stored {
            StoredSlot::Taken(allocation) => states.has_ended(allocation),
            StoredSlot::Unreadable => false,
        };
        let mut taken: BTreeSet<u32> = stored
            .iter()
            .filter(|(slot, stored)| !self.is_leftover(**slot, stored) && !has_ended(stored))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in &self.shown {
            // The read is about the same allocation, and may have found that it has ended.
            if stored.get(slot) == self.slots.get(slot) {
                continue;
            }
            stored.remove(slot);
            stored.extend(self.slots.remove_entry(slot));
            taken.remove(slot);
            taken.extend(self.taken.take(slot));
        }
        (self.slots, self.taken) = (stored, taken);
        self.read = Some(began);
        self.is_outdated = false;
    }

    /// Notes that a request of this broker has taken the slot.
    pub(super) fn took(&mut self, slot: u32, allocation: AllocationRef) {
        self.slots.insert(slot, StoredSlot::Taken(allocation));
        self.taken.insert(slot);
        self.shown.insert(slot);
    }

    /// Notes that another broker has written the slot, and what an attempt to take it has found. Whether that allocation
    /// has ended is read when the lab has no other slot.
    pub(super) fn found(&mut self, slot: u32, stored: Option<StoredSlot>) {
        if let Some(stored) = stored {
            self.slots.insert(slot, stored);
            self.taken.insert(slot);
        } else {
            self.slots.remove(&slot);
            self.taken.remove(&slot);
        }
        self.shown.insert(slot);
        self.is_outdated = true;
    }

    /// Ends a reservation, and returns whether it was the last one.
    pub(super) fn release(&mut self, slot: u32) -> bool {
        self.reserved.remove(&slot);
        self.reserved.is_empty()
    }
}

/// Returns the time `age` before `now`, or the earliest that there is.
fn before(now: Instant, age: Duration) -> Instant {
    now.checked_sub(age).unwrap_or(now)
}
