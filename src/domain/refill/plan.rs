//! The plan of a run for one pool.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    clock::UnixSeconds,
    domain::{
        Creation, CreationOutcome, CreationState, NamePrefix, PoolTarget, PoolTerms, Sandbox,
        Status, account_key,
    },
};

/// How long an account may be missing from the pool before it is looked up.
const LOOK_UP_AFTER: Duration = Duration::from_hours(1);

/// The sandboxes of a pool, counted, and those of its open creations.
///
/// The creations have to be read before the sandboxes: a creation whose sandbox was inserted in between is then found,
/// and never missed by both reads.
#[derive(Debug)]
pub struct PoolContents<'a> {
    prefix: &'a NamePrefix,
    /// Sandboxes that can be allocated.
    pub available: u64,
    /// Sandboxes whose accounts are not known to be usable yet.
    pub provisioning: u64,
    /// The sandboxes whose accounts exist: all but the stale ones. Unreadable items count too.
    pub total: u64,
    /// The largest number in the names of sandboxes.
    last_number: u64,
    /// By the keys of their accounts.
    by_id: HashMap<&'a str, u64>,
    by_name: HashMap<&'a str, u64>,
    /// The sandboxes of open creations, by number: how the creation ended, and when the sandbox became available; `None`
    /// if its account is not known to be usable yet.
    found: HashMap<u64, Option<Closing>>,
    /// The open creations whose sandboxes CSP lists under a name of no, or of another, pool.
    renamed: HashSet<u64>,
}

/// The end of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The number of the creation.
    pub number: u64,
    /// How it ended.
    pub outcome: CreationOutcome,
    /// When its sandbox became available.
    pub available_at: Option<UnixSeconds>,
}

/// Why a pool creates fewer accounts than its target asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefillLimit {
    /// It has `max_total` sandboxes, with those under way.
    MaxTotal,
    /// Enough accounts are under way.
    UnderWay,
    /// It has as many sandboxes as its target.
    Full,
}

/// The plan of a run for a pool: what it may do there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefillPlan {
    /// Accounts that the pool is about to have: open creations without a sandbox.
    pub under_way: u64,
    /// The accounts under way that exist, or may exist.
    pub created: u64,
    /// Creations that have ended.
    pub closings: Vec<Closing>,
    /// Creations whose accounts no sync lists: they are looked up.
    pub look_up: Vec<u64>,
    /// Creations whose accounts may exist: CSP was asked, and its answer is not known. They count as accounts.
    pub unanswered: Vec<u64>,
    /// Open creations without an account that are still wanted.
    pub resume: Vec<u64>,
    /// Open creations without an account that are no longer wanted.
    pub surplus: Vec<u64>,
    /// How many further accounts are wanted.
    pub new: u64,
    /// The number of the next creation.
    pub next_number: u64,
    /// Why no further accounts are wanted.
    pub limit: Option<RefillLimit>,
}

impl<'a> PoolContents<'a> {
    /// Starts the count of a pool with these open creations.
    #[must_use]
    pub fn new(prefix: &'a NamePrefix, creations: &'a [Creation]) -> Self {
        // Two accounts can have one name. The id decides, once it is known.
        let id = |creation: &'a Creation| {
            let key = account_key(creation.external_id.as_deref()?);
            Some((key, creation.number))
        };
        let without_id = creations.iter().filter(|it| it.external_id.is_none());
        Self {
            prefix,
            available: 0,
            provisioning: 0,
            total: 0,
            last_number: 0,
            by_id: creations.iter().filter_map(id).collect(),
            by_name: without_id
                .map(|creation| (creation.name.as_str(), creation.number))
                .collect(),
            found: HashMap::new(),
            renamed: HashSet::new(),
        }
    }

    /// Adds a sandbox of another pool, or of none. If a creation has its account, CSP has given that another name, and
    /// the creation counts as under way: further ones would end in the same way, and never fill the pool.
    pub fn add_other(&mut self, sandbox: &Sandbox) {
        let number = self.by_id.get(account_key(&sandbox.account.external_id));
        self.renamed
            .extend(number.filter(|_| sandbox.status != Status::Stale));
    }

    /// Counts a sandbox of the pool.
    pub fn add(&mut self, sandbox: &Sandbox) {
        let (account, status) = (&sandbox.account, sandbox.status);
        self.add_name(&account.name);
        match status {
            Status::Available => self.available += 1,
            Status::Provisioning => self.provisioning += 1,
            Status::Stale => self.total -= 1,
            _ => {}
        }
        let number = self
            .by_id
            .get(account_key(&account.external_id))
            .or_else(|| self.by_name.get(account.name.as_str()));
        if let Some(&number) = number {
            self.found.insert(number, closing(number, sandbox));
        }
    }

    /// Counts an unreadable item of the pool.
    pub fn add_unreadable(&mut self, name: &str) {
        self.add_name(name);
    }

    fn add_name(&mut self, name: &str) {
        self.total += 1;
        let number = Creation::number_in(self.prefix, name).unwrap_or(0);
        self.last_number = self.last_number.max(number);
    }
}

/// Returns the end of a creation with this sandbox; `None` while its account is not known to be usable.
fn closing(number: u64, sandbox: &Sandbox) -> Option<Closing> {
    let usable_at = sandbox.readiness.usable_at;
    let outcome = match (sandbox.status, usable_at) {
        (Status::Provisioning, _) => return None,
        (Status::Quarantined, None) => CreationOutcome::Quarantined,
        (Status::Stale, None) => CreationOutcome::Gone,
        // Found usable, or, without checks, available from its insertion on.
        _ => CreationOutcome::Available,
    };
    let is_available = outcome == CreationOutcome::Available;
    let available_at = usable_at.or(sandbox.inserted_at.filter(|_| is_available));
    Some(Closing {
        number,
        outcome,
        available_at,
    })
}

impl RefillPlan {
    /// Plans a run in a pool with these open creations. `has_no_account` returns whether a run has looked up the account
    /// of a creation without an answer, and CSP does not have it.
    #[must_use]
    pub fn new(
        terms: &PoolTerms,
        target: &PoolTarget,
        items: (u64, &[Creation]),
        contents: &PoolContents<'_>,
        has_no_account: impl Fn(&Creation) -> bool,
        now: UnixSeconds,
    ) -> Self {
        let (last_number, creations) = items;
        let mut plan = Self {
            next_number: last_number.max(contents.last_number) + 1,
            ..Self::default()
        };
        let mut without_account = Vec::new();
        for creation in creations {
            let number = creation.number;
            plan.next_number = plan.next_number.max(number + 1);
            if contents.renamed.contains(&number) {
                plan.created += 1;
                continue;
            }
            match (contents.found.get(&number), creation.state) {
                (Some(closing), _) => plan.closings.extend(closing),
                (None, CreationState::Intended) => without_account.push(number),
                (None, CreationState::Attempted) if has_no_account(creation) => {
                    without_account.push(number);
                }
                (None, CreationState::Attempted) => plan.unanswered.push(number),
                (None, CreationState::Created) => {
                    plan.created += 1;
                    if is_missing(creation, now) {
                        plan.look_up.push(number);
                    }
                }
                (None, CreationState::Listed) => plan.closings.push(Closing {
                    number,
                    outcome: CreationOutcome::Gone,
                    available_at: None,
                }),
            }
        }
        plan.created += plan.unanswered.len() as u64;
        let open = without_account.len() as u64;
        plan.under_way = plan.created + open;
        let supply = contents.available + contents.provisioning;
        let deficit = u64::from(target.goal).saturating_sub(supply);
        let room = |max| u64::from(max).saturating_sub(contents.total);
        let most = terms
            .max_total
            .map_or(deficit, |max| room(max).min(deficit));
        let wanted = most.saturating_sub(plan.created);
        plan.new = wanted.saturating_sub(open);
        plan.surplus = without_account.split_off(usize::try_from(wanted.min(open)).unwrap_or(0));
        plan.resume = without_account;
        plan.limit = match (plan.new, deficit) {
            (_, deficit) if most < deficit => Some(RefillLimit::MaxTotal),
            (0, 0) => Some(RefillLimit::Full),
            (0, _) => Some(RefillLimit::UnderWay),
            _ => None,
        };
        plan
    }

    /// Returns how many accounts the run may create or adopt.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        self.resume.len() as u64 + self.new
    }
}

/// Returns whether the account of a creation without a sandbox should be looked up. Times ahead of the clock do not count.
fn is_missing(creation: &Creation, now: UnixSeconds) -> bool {
    let seen = [creation.created_at, creation.looked_up_at];
    let credible = seen
        .into_iter()
        .flatten()
        .filter_map(|at| at.if_credible(now));
    credible.max().is_none_or(|at| at <= now - LOOK_UP_AFTER)
}
