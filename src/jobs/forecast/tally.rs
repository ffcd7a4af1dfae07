//! A pool as its sandboxes and creations show it: counts, and the changes that are expected.

use std::{collections::HashMap, time::Duration};

use crate::{
    clock::UnixSeconds,
    domain::{
        Activity, Creation, CreationState, PoolChange, PoolChanges, PoolOutlook, PoolTerms,
        Sandbox, Status,
    },
    jobs::{CheckMode, JobContext},
};

/// How long a listed creation counts as under way if no sandbox is read for it: the index of the table lags.
const INDEX_LAG: Duration = Duration::from_mins(10);

/// The intervals of the jobs, and the ends of the pauses that stop them.
#[derive(Clone, Debug)]
pub(super) struct Timetable {
    pub(super) now: UnixSeconds,
    pub(super) grace: Duration,
    pub(super) expiry_interval: Duration,
    pub(super) cleanup_interval: Duration,
    pub(super) sync_interval: Duration,
    /// The interval of checks; `None` if there are none.
    pub(super) check_interval: Option<Duration>,
    pub(super) provision_timeout: Duration,
    /// When the pauses end that are in force: now if there is none, never if it has no end.
    pub(super) expiry_from: UnixSeconds,
    pub(super) deletions_from: UnixSeconds,
    pub(super) sync_from: UnixSeconds,
}

impl Timetable {
    pub(super) fn new(context: &JobContext, now: UnixSeconds) -> Self {
        let jobs = &context.jobs;
        let from = |activity| match context.pauses.of(activity) {
            None => now,
            Some(pause) => pause.until.unwrap_or(UnixSeconds::NEVER),
        };
        Self {
            now,
            grace: context.terms.grace,
            expiry_interval: jobs.expiry_interval,
            cleanup_interval: jobs.cleanup_interval,
            sync_interval: jobs.sync_interval,
            check_interval: (jobs.check.mode != CheckMode::Off).then_some(jobs.check.interval),
            provision_timeout: jobs.check.provision_timeout,
            expiry_from: from(Activity::Expiry),
            deletions_from: from(Activity::Deletions),
            sync_from: from(Activity::Sync),
        }
    }

    /// Returns when auto-expire has seen that `end` has passed.
    fn expired(&self, end: UnixSeconds) -> UnixSeconds {
        end.max(self.expiry_from).max(self.now) + self.expiry_interval
    }

    /// Returns when cleanup has deleted a sandbox whose deletion is due at `due`.
    fn deleted(&self, due: UnixSeconds) -> UnixSeconds {
        due.max(self.deletions_from).max(self.now) + self.cleanup_interval
    }
}

/// The facts about refill in a pool.
#[derive(Debug)]
pub(super) struct RefillFacts {
    /// Its open creations.
    pub(super) creations: Vec<Creation>,
    /// The measured times from a creation until its sandbox was available: how many, and their 95th percentile; `None` with
    /// too few.
    pub(super) measured: Option<(usize, Duration)>,
    /// When it can create sandboxes at the earliest, or why it does not.
    pub(super) creates_from: Result<UnixSeconds, String>,
    /// Whether it has stopped for the pool.
    pub(super) is_stopped: bool,
}

/// A pool, while its sandboxes are counted.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) outlook: PoolOutlook,
    /// How many creations were measured for the time that they take; `None` if it is an assumption.
    pub(super) measured: Option<usize>,
    /// Whether refill has stopped for the pool.
    pub(super) is_stopped: bool,
    /// The sandboxes and creations that take longer than they should.
    pub(super) overdue: u64,
    creations: Vec<Creation>,
    /// The creations whose sandboxes have been counted.
    counted: Vec<bool>,
    /// The creations by the name and the external id of their account.
    by_account: HashMap<String, usize>,
}

impl Tally {
    pub(super) fn new(terms: &PoolTerms, refill: RefillFacts, timetable: &Timetable) -> Self {
        let creations = refill.creations;
        let keys = |(index, creation): (usize, &Creation)| {
            let keys = [Some(creation.name.clone()), creation.external_id.clone()];
            keys.into_iter().flatten().map(move |key| (key, index))
        };
        let time_to_available = refill.measured.map(|(_, time)| time);
        Self {
            outlook: PoolOutlook {
                terms: terms.clone(),
                available: 0,
                warming: 0,
                total: 0,
                changes: PoolChanges::new(),
                time_to_available: time_to_available.unwrap_or(timetable.provision_timeout),
                usable_from: timetable.sync_from,
                creates_from: refill.creates_from,
            },
            measured: refill.measured.map(|(count, _)| count),
            is_stopped: refill.is_stopped,
            overdue: 0,
            by_account: creations.iter().enumerate().flat_map(keys).collect(),
            counted: vec![false; creations.len()],
            creations,
        }
    }

    /// Returns whether refill creates sandboxes in the pool.
    pub(super) const fn creates(&self) -> bool {
        self.outlook.terms.create.is_some()
    }

    /// Counts a sandbox of the pool.
    pub(super) fn add(&mut self, sandbox: &Sandbox, timetable: &Timetable) {
        let account = &sandbox.account;
        let creation = [&account.external_id, &account.name]
            .into_iter()
            .find_map(|key| self.by_account.get(key.as_str()).copied());
        if let Some(index) = creation {
            self.counted[index] = true;
        }
        if sandbox.status == Status::Stale {
            return;
        }
        self.outlook.total += 1;
        match sandbox.status {
            Status::Available => self.outlook.available += 1,
            Status::Provisioning => {
                self.outlook.warming += 1;
                let attempted = creation.and_then(|index| self.creations[index].attempted_at);
                // Not from the creation of an account alone: a sync may list it long after that, and its checks begin then.
                let begun = attempted.or(account.created_at.max(sandbox.inserted_at));
                self.expect_usable(begun.unwrap_or(timetable.now), timetable);
            }
            Status::Allocated => {
                let end = sandbox.expires_at.unwrap_or(timetable.now) + timetable.grace;
                let retired = timetable.expired(end);
                self.expect(timetable.deleted(retired), PoolChange::Gone);
            }
            Status::PendingDeletion => {
                let due = sandbox.maintenance.next_deletion_at;
                let deleted = timetable.deleted(due.unwrap_or(timetable.now));
                self.expect(deleted, PoolChange::Gone);
            }
            Status::Quarantined => self.expect_end_of_quarantine(sandbox, timetable),
            Status::DeletionFailed | Status::Stale => {}
        }
    }

    /// Adds the creations whose sandboxes have not been counted.
    pub(super) fn close(mut self, timetable: &Timetable) -> Self {
        for index in 0..self.creations.len() {
            let creation = &self.creations[index];
            if self.counted[index] || !is_under_way(creation, timetable.now) {
                continue;
            }
            let begun = creation.attempted_at.unwrap_or(creation.intended_at);
            self.outlook.warming += 1;
            self.outlook.total += 1;
            self.expect_usable(begun, timetable);
        }
        self
    }

    fn expect(&mut self, at: UnixSeconds, change: PoolChange) {
        *self.outlook.changes.entry((at, change)).or_default() += 1;
    }

    /// Expects that a sandbox becomes usable whose creation began at `begun`. One that has taken longer than others is not
    /// relied on: it is expected to be quarantined when its time-out is over.
    fn expect_usable(&mut self, begun: UnixSeconds, timetable: &Timetable) {
        let (now, sync_from) = (timetable.now, timetable.sync_from);
        let expected = begun + self.outlook.time_to_available;
        let change = match timetable.check_interval {
            _ if expected >= now => (expected.max(sync_from), PoolChange::Usable),
            None => (
                now.max(sync_from) + timetable.sync_interval,
                PoolChange::Usable,
            ),
            Some(interval) => {
                self.overdue += 1;
                let given_up = begun + timetable.provision_timeout;
                (
                    given_up.max(now.max(sync_from) + interval),
                    PoolChange::GivenUp,
                )
            }
        };
        self.expect(change.0, change.1);
    }

    fn expect_end_of_quarantine(&mut self, sandbox: &Sandbox, timetable: &Timetable) {
        let Some(until) = sandbox.quarantine.until else {
            return;
        };
        let ended = timetable.expired(until);
        match sandbox.quarantine_end().to() {
            Status::Available => self.expect(ended, PoolChange::Returned),
            Status::PendingDeletion => self.expect(timetable.deleted(ended), PoolChange::Gone),
            Status::Stale => self.expect(ended, PoolChange::Gone),
            // It has to be checked again, for how long is not known.
            _ => {}
        }
    }
}

/// Returns whether an account may exist or be created whose sandbox is not in the pool yet.
fn is_under_way(creation: &Creation, now: UnixSeconds) -> bool {
    match creation.state {
        CreationState::Attempted | CreationState::Created => true,
        CreationState::Listed => creation.listed_at.is_some_and(|at| at + INDEX_LAG > now),
        // The forecast creates it, if it is still wanted.
        CreationState::Intended => false,
    }
}

#[cfg(test)]
mod tests;
