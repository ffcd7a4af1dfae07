//! The pools of a pass: their sandboxes and creations as read, and the creations still to make.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Skip, report::PoolRefill};
use crate::{
    clock::UnixSeconds,
    domain::{
        Creation, LAST_CREATION, NamePrefix, Policy, PoolContents, PoolSupply, PoolTarget,
        PoolTerms, RefillLimit, RefillPlan, Urgency, account_key,
    },
    jobs::JobContext,
    store::{RefillItems, StoreError},
};

/// How many pools are read at the same time.
const CONCURRENT_READS: usize = 4;

/// A pool in a pass.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) terms: PoolTerms,
    /// The version of the policy that states the terms, or one before it.
    pub(super) policy_version: u32,
    pub(super) items: RefillItems,
    pub(super) target: PoolTarget,
    pub(super) plan: RefillPlan,
    pub(super) report: PoolRefill,
    /// The open creations without an account that are still wanted.
    resume: VecDeque<Creation>,
    /// Its sandboxes that are available or in `provisioning`, and the creations that have an account or are taken.
    supply: u64,
    /// Whether one creation is attempted although CSP has refused the last one.
    pub(super) is_probe: bool,
}

/// The policy under which a run creates accounts.
#[derive(Clone, Debug)]
pub(super) struct PolicyInForce {
    pub(super) policy: Arc<Policy>,
    /// The number of its version, or of one before it.
    pub(super) version: u32,
}

impl PolicyInForce {
    pub(super) fn of(context: &JobContext) -> Self {
        // In this order, a refusal under a new version is never taken for one under a later version.
        let version = context.policy.status().number();
        Self {
            version,
            policy: context.policy.current(),
        }
    }

    /// Returns the pools for which accounts are created.
    fn pools(&self) -> impl Iterator<Item = &PoolTerms> {
        let pools = self.policy.pools().iter();
        pools.filter(|terms| terms.create.is_some())
    }

    /// Reads the pools: first the creations of each, then all sandboxes in one scan.
    /// `has_no_account` is that of [`RefillPlan::new`].
    pub(super) async fn read_pools(
        &self,
        context: &JobContext,
        has_no_account: impl Fn(&Creation) -> bool,
    ) -> Result<Vec<Pool>, StoreError> {
        let store = &context.store;
        let reads: Vec<_> = self
            .pools()
            .map(|terms| store.refill_items(&terms.name_prefix))
            .collect();
        let items: Vec<RefillItems> = stream::iter(reads)
            .buffered(CONCURRENT_READS)
            .try_collect()
            .await?;
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let contents = self.count(context, &items).await?;
        let now = context.clock.now();
        let targets = targets(context, self.pools(), &items, &contents, now);
        let plans: Vec<_> = self
            .pools()
            .zip(&items)
            .zip(contents.iter().zip(&targets))
            .map(|((terms, items), (contents, target))| {
                let open = (items.state.last_number, &*items.creations);
                let plan = RefillPlan::new(terms, target, open, contents, &has_no_account, now);
                let report = PoolRefill {
                    name_prefix: terms.name_prefix.to_string(),
                    target: target.target,
                    goal: target.goal,
                    available: contents.available,
                    provisioning: contents.provisioning,
                    under_way: plan.under_way,
                    total: contents.total,
                    max_total: terms.max_total,
                    wanted: plan.wanted() + plan.unanswered.len() as u64,
                    ..PoolRefill::default()
                };
                (plan, report)
            })
            .collect();
        let pools = self.pools().zip(items).zip(targets).zip(plans);
        Ok(pools
            .map(|(((terms, items), target), (plan, report))| {
                Pool::new((terms.clone(), self.version), items, target, plan, report)
            })
            .collect())
    }

    async fn count<'a>(
        &'a self,
        context: &JobContext,
        items: &'a [RefillItems],
    ) -> Result<Vec<PoolContents<'a>>, StoreError> {
        let all = self.policy.pools();
        let mut positions = vec![None; all.len()];
        let mut contents: Vec<PoolContents<'a>> = Vec::with_capacity(items.len());
        let mut owners: HashMap<&str, usize> = HashMap::new();
        for (position, items) in items.iter().enumerate() {
            let ids = items
                .creations
                .iter()
                .filter_map(|it| it.external_id.as_deref())
                .map(account_key);
            owners.extend(ids.map(|id| (id, position)));
        }
        let mut items = items.iter();
        for (index, terms) in all.iter().enumerate() {
            if terms.create.is_some()
                && let Some(items) = items.next()
            {
                positions[index] = Some(contents.len());
                contents.push(PoolContents::new(&terms.name_prefix, &items.creations));
            }
        }
        context
            .store
            .each_sandbox(|name, sandbox| {
                let position = self.policy.pool_of(name).and_then(|index| positions[index]);
                let owner = sandbox.and_then(|it| owners.get(account_key(&it.account.external_id)));
                if let (Some(sandbox), Some(&owner)) = (sandbox, owner)
                    && Some(owner) != position
                {
                    tracing::warn!(
                        name,
                        external_id = sandbox.account.external_id,
                        "created account has a name of another pool"
                    );
                    contents[owner].add_other(sandbox);
                }
                if let Some(position) = position {
                    match sandbox {
                        Some(sandbox) => contents[position].add(sandbox),
                        None => contents[position].add_unreadable(name),
                    }
                }
            })
            .await?;
        Ok(contents)
    }
}

fn targets<'a>(
    context: &JobContext,
    pools: impl Iterator<Item = &'a PoolTerms>,
    items: &[RefillItems],
    contents: &[PoolContents<'_>],
    now: UnixSeconds,
) -> Vec<PoolTarget> {
    let supplies: Vec<_> = pools
        .zip(items)
        .zip(contents)
        .map(|((terms, items), contents)| PoolSupply {
            terms,
            available: contents.available,
            time_to_available: (items.state.time_to_available())
                .unwrap_or(context.jobs.check.provision_timeout),
        })
        .collect();
    PoolTarget::at(now, &supplies, Some(context.jobs.refill.pace()))
}

impl Pool {
    fn new(
        (terms, policy_version): (PoolTerms, u32),
        items: RefillItems,
        target: PoolTarget,
        plan: RefillPlan,
        report: PoolRefill,
    ) -> Self {
        let find = |number: &u64| items.creations.iter().find(|it| it.number == *number);
        let resume = plan.resume.iter().filter_map(find).cloned().collect();
        Self {
            resume,
            supply: report.available + report.provisioning + plan.created,
            terms,
            policy_version,
            items,
            target,
            plan,
            report,
            is_probe: false,
        }
    }

    pub(super) const fn prefix(&self) -> &NamePrefix {
        &self.terms.name_prefix
    }

    pub(super) fn creation(&self, number: u64) -> Option<&Creation> {
        self.items.creations.iter().find(|it| it.number == number)
    }

    /// Skips the pool: no more accounts are created in this pass.
    pub(super) fn skip(&mut self, reason: impl Into<String>) {
        self.resume.clear();
        self.plan.new = 0;
        self.report.reason = Some(reason.into());
    }

    /// Skips the pool because it is stopped.
    pub(super) fn stop(&mut self, reason: impl Into<String>) {
        self.skip(reason);
        self.report.stopped = true;
    }

    /// Skips the pool as the run has before.
    pub(super) fn apply_skip(&mut self, skip: &Skip) {
        self.skip(&*skip.reason);
        self.report.stopped = skip.is_stop;
    }

    /// Stops the pool if an item is unreadable, or if CSP has refused and no probe is admitted yet. `is_probed` admits one.
    pub(super) fn apply_stop(&mut self, is_probed: bool, now: UnixSeconds) {
        if let Some(fault) = self.items.fault() {
            return self.stop(format!("{fault}; correct or remove it"));
        }
        // A pool that wants no accounts has nothing to stop.
        let wanted = self.report.wanted > 0;
        let Some(stop) = self.items.state.stop.clone().filter(|_| wanted) else {
            return;
        };
        if is_probed || stop.admits_probe(now, self.policy_version) {
            self.is_probe = true;
        } else {
            self.stop(stop.report_reason());
        }
    }

    /// Returns how urgent the next creation is; `None` if there is none.
    pub(super) fn urgency(&self) -> Option<Urgency> {
        let has_next = self.plan.new > 0 || !self.resume.is_empty();
        self.target.urgency(self.supply).filter(|_| has_next)
    }

    /// Takes the next creation. Returns with it whether it is new: then its item has to be written first.
    pub(super) fn take_next(&mut self, now: UnixSeconds) -> Option<(Creation, bool)> {
        let next = match self.resume.pop_front() {
            Some(creation) => (creation, false),
            None if self.plan.new == 0 => return None,
            None if self.plan.next_number > LAST_CREATION => {
                self.stop("all numbers of creations are used");
                return None;
            }
            None => {
                self.plan.new -= 1;
                let number = self.plan.next_number;
                self.plan.next_number += 1;
                (Creation::intended(self.prefix(), number, now), true)
            }
        };
        self.supply += 1;
        Some(next)
    }

    /// Sets the reason why the pool gets no more accounts, unless it has one.
    pub(super) fn explain(&mut self, is_batch_used: bool) {
        if self.report.reason.is_some() {
            return;
        }
        let reason = if self.urgency().is_some() {
            is_batch_used.then_some("a run creates REFILL_BATCH accounts at most")
        } else {
            match self.plan.limit {
                Some(RefillLimit::MaxTotal) => Some("the pool may have max_total sandboxes"),
                Some(RefillLimit::UnderWay) => Some("enough accounts are under way"),
                Some(RefillLimit::Full) | None => None,
            }
        };
        self.report.reason = reason.map(str::to_owned);
    }
}
