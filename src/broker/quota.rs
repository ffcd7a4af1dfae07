//! Quotas of labs: the slot that each allocation of a lab with a quota takes, in the transaction that allocates.
//!
//! Each broker keeps what it knows of the slots of the labs that it serves. That knowledge only proposes: the condition
//! of the write decides whether a slot is free, and [`permitted_slots`](crate::domain::permitted_slots) which slots keep
//! the quota. A request is refused only after a read of all slots that began after the request.

mod count;
mod shared_read;
#[cfg(test)]
mod tests;
mod view;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

pub use self::count::LabsHeldCount;
use self::{
    shared_read::{INTERVAL, SharedRead},
    view::{Choice, Quota, View},
};
use super::{BrokerError, polling};
use crate::{
    domain::{LabId, LabTerms, Sandbox},
    shared::lock,
    store::{AllocationRef, PoolStore, QuotaSlot, StoreError, StoredSlot},
};

/// The maximum number of labs whose slots a broker keeps in memory. A policy can set a quota for all labs whose ids begin
/// with the same text, so clients decide how many there are.
const MAX_LABS: usize = 1000;

/// The quotas of all labs. Cheap to clone; clones share what they know.
#[derive(Clone, Debug)]
pub struct Quotas(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: PoolStore,
    tasks: TaskTracker,
    /// With the time of the last request.
    labs: Mutex<HashMap<LabId, (Arc<LabSlots>, Instant)>>,
    held: LabsHeldCount,
    /// How long after this broker has seen a new policy, other brokers may allocate by the one before: until they have
    /// read it, and their requests in progress have ended.
    settling: Duration,
    random: Mutex<SmallRng>,
}

#[derive(Debug)]
struct LabSlots {
    id: LabId,
    view: Mutex<View>,
    reads: SharedRead,
    /// Signalled when a request that reserved a slot has ended.
    released: Notify,
}

/// The quota of a lab, for one request.
#[derive(Debug)]
pub(super) struct LabQuota<'a> {
    quotas: &'a Quotas,
    lab: &'a LabId,
    quota: Quota,
    /// When the request began.
    since: Instant,
    reservation: Option<Reservation>,
}

/// A slot that no other request of this broker takes until the reservation is dropped.
#[derive(Debug)]
struct Reservation {
    lab: Arc<LabSlots>,
    number: u32,
    leftover: Option<AllocationRef>,
}

impl Quotas {
    /// Creates the quotas over `store`. `held` counts the allocations without a slot; reads run on `tasks`. An
    /// allocation takes `timeout` at most. `seed` determines the choice of slots, in which brokers should differ.
    #[must_use]
    pub fn new(
        store: PoolStore,
        held: LabsHeldCount,
        tasks: TaskTracker,
        timeout: Duration,
        seed: u64,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            tasks,
            labs: Mutex::default(),
            held,
            settling: polling::MAX_DELAY + timeout,
            random: Mutex::new(SmallRng::seed_from_u64(seed)),
        }))
    }

    /// Returns the quota of a lab for a request that begins now; `None` if the lab has none. Without a lab there is none.
    /// `policy` is the number of the policy that the terms are of.
    pub(super) fn of<'a>(
        &'a self,
        lab: Option<&'a LabId>,
        terms: &LabTerms,
        policy: u64,
    ) -> Option<LabQuota<'a>> {
        Some(LabQuota {
            quotas: self,
            lab: lab?,
            quota: Quota {
                max: terms.max_held?,
                policy,
            },
            since: Instant::now(),
            reservation: None,
        })
    }

    /// Reserves a slot for a request that began at `since`, of a lab with this quota. Waits while other requests of this
    /// broker are taking all free slots. If the lab holds as many as it may, or more, returns how many.
    async fn reserve(
        &self,
        lab: &LabId,
        quota: Quota,
        since: Instant,
    ) -> Result<Result<Reservation, u64>, StoreError> {
        let lab = self.slots_of(lab, quota);
        loop {
            // Before the choice, so that the end of a reservation after it is noticed.
            let mut released = pin!(lab.released.notified());
            released.as_mut().enable();
            let oldest = lock(&lab.view).oldest_read(quota, Instant::now());
            let without_slot = self.0.held.without_slot(&lab.id, oldest).await?;
            match self.choose(&lab, since, oldest, without_slot) {
                Choice::Take(number, leftover) => {
                    return Ok(Ok(Reservation {
                        lab: Arc::clone(&lab),
                        number,
                        leftover,
                    }));
                }
                Choice::Wait => {
                    // Slots whose allocations end meanwhile are found by a read only.
                    if timeout(INTERVAL, released).await.is_err() {
                        self.read(&lab, Instant::now()).await?;
                    }
                }
                Choice::Read(oldest) => self.read(&lab, oldest).await?,
                Choice::Reached(held) => {
                    // The count that knows these allocations may be old.
                    let recent = count::recent(oldest);
                    if without_slot == 0
                        || self.0.held.without_slot(&lab.id, recent).await? == without_slot
                    {
                        return Ok(Err(held));
                    }
                }
            }
        }
    }

    fn choose(&self, lab: &LabSlots, since: Instant, oldest: Instant, without_slot: u64) -> Choice {
        let random = |below| lock(&self.0.random).random_range(0..below);
        lock(&lab.view).choose(since, oldest, without_slot, Instant::now(), random)
    }

    /// Returns what is known of a lab's slots. If there are too many labs, the one that was used longest ago is forgotten: its
    /// slots are read again when it is used.
    fn slots_of(&self, id: &LabId, quota: Quota) -> Arc<LabSlots> {
        let (mut labs, now) = (lock(&self.0.labs), Instant::now());
        if let Some((lab, used)) = labs.get_mut(id) {
            *used = now;
            return Arc::clone(lab);
        }
        if labs.len() >= MAX_LABS {
            let oldest = labs.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                labs.remove(&oldest);
            }
        }
        let lab = Arc::new(LabSlots {
            id: id.clone(),
            view: Mutex::new(View::new(quota, self.0.settling, now)),
            reads: SharedRead::default(),
            released: Notify::new(),
        });
        labs.insert(id.clone(), (Arc::clone(&lab), now));
        lab
    }

    /// Waits for a read of the lab's slots that began at `oldest` or later.
    async fn read(&self, lab: &Arc<LabSlots>, oldest: Instant) -> Result<(), StoreError> {
        let is_done = || lock(&lab.view).read().is_some_and(|read| read >= oldest);
        let read = || read_slots(self.0.store.clone(), Arc::clone(lab));
        lab.reads.until(is_done, &self.0.tasks, read).await
    }
}

async fn read_slots(store: PoolStore, lab: Arc<LabSlots>) -> Result<(), StoreError> {
    let began = Instant::now();
    lock(&lab.view).begin_read();
    let stored = store.quota_slots(&lab.id).await?;
    let unknown: Vec<_> = lock(&lab.view).unknown(&stored).cloned().collect();
    let states = store.allocation_states(&unknown).await?;
    lock(&lab.view).end_read(began, stored, &states);
    // All free slots may have been reserved before the read.
    lab.released.notify_waiters();
    Ok(())
}

impl LabQuota<'_> {
    /// Reserves a slot for the next attempt, unless one is reserved. Returns the refusal if the quota is reached.
    pub(super) async fn reserve(&mut self) -> Result<Option<BrokerError>, BrokerError> {
        let Self {
            lab, quota, since, ..
        } = *self;
        let max = quota.max;
        let reached = |held| BrokerError::LabQuotaReached { held, max };
        if max == 0 {
            return Ok(Some(reached(0)));
        }
        if self.reservation.is_none() {
            match self.quotas.reserve(lab, quota, since).await? {
                Ok(reservation) => self.reservation = Some(reservation),
                Err(held) => return Ok(Some(reached(held))),
            }
        }
        Ok(None)
    }

    /// The reserved slot, for the write that takes it.
    pub(super) fn slot(&self) -> Option<QuotaSlot<'_>> {
        let reservation = self.reservation.as_ref()?;
        Some(QuotaSlot {
            lab: self.lab,
            number: reservation.number,
            leftover: reservation.leftover.as_ref(),
        })
    }

    /// Ends the reservation: the slot was taken with the allocation of `sandbox`.
    pub(super) fn took(&mut self, sandbox: &Sandbox) {
        if let Some(reservation) = self.reservation.take() {
            let allocation = AllocationRef::of(sandbox);
            lock(&reservation.lab.view).took(reservation.number, allocation);
        }
    }

    /// Ends the reservation: another broker has written the slot, which is now `stored`.
    pub(super) fn found(&mut self, stored: Option<StoredSlot>) {
        if let Some(reservation) = self.reservation.take() {
            lock(&reservation.lab.view).found(reservation.number, stored);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let was_last = lock(&self.lab.view).release(self.number);
        if was_last {
            self.lab.released.notify_waiters();
        } else {
            self.lab.released.notify_one();
        }
    }
}
