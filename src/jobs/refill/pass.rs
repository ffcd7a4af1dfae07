//! A pass over the pools: creations that have ended are closed, and the pools take turns in creating accounts.

use super::{
    Refill,
    account::first_of,
    pool::{PolicyInForce, Pool},
};
use crate::{
    clock::UnixSeconds,
    domain::{Closing, Creation, CreationOutcome, account_key},
    jobs::JobError,
    store::CreationStep,
};

impl Refill<'_> {
    /// Makes one pass. Returns whether there are creations to which an earlier run got no answer, and whose accounts have
    /// not been looked up. Up to half of the run's budget is left to them if another pass follows.
    pub(super) async fn pass(&mut self, may_another_follow: bool) -> Result<bool, JobError> {
        let context = self.context();
        let policy = PolicyInForce::of(context);
        let has_no_account = |creation: &Creation| self.absent.contains(&creation.name);
        let mut pools = policy.read_pools(context, has_no_account).await?;
        let mut unanswered = 0;
        let ended = async {
            for pool in &mut pools {
                unanswered += self.prepare(pool).await?;
            }
            let reserved = if may_another_follow {
                unanswered.min(self.budget.div_ceil(2))
            } else {
                0
            };
            let turns = self.take_turns(&mut pools, reserved).await;
            for pool in &mut pools {
                pool.explain(self.budget <= reserved);
            }
            turns
        };
        let ended = ended.await;
        self.report_pools(pools.into_iter().map(|pool| pool.report).collect());
        self.run.progress(&self.report);
        ended?;
        Ok(unanswered > 0)
    }

    /// Does everything in a pool but creating accounts. Returns the number of creations of earlier runs without an answer.
    async fn prepare(&mut self, pool: &mut Pool) -> Result<usize, JobError> {
        let now = self.context().clock.now();
        pool.apply_stop(self.job.probe_stopped, now);
        if !pool.items.unreadable.is_empty() {
            tracing::warn!(
                pool = %pool.prefix(),
                fault = pool.items.unreadable.join("; "),
                "refill stopped by an unreadable item"
            );
            return Ok(0);
        }
        if let Some(skip) = self.skipped.get(pool.prefix()) {
            pool.apply_skip(skip);
            return Ok(0);
        }
        let is_of_earlier_run = |number: &&u64| {
            let creation = pool.creation(**number);
            creation.is_some_and(|creation| !self.unanswered.contains(&creation.name))
        };
        let unanswered = pool
            .plan
            .unanswered
            .iter()
            .filter(is_of_earlier_run)
            .count();
        if self.job.plan {
            pool.report.drops = pool.plan.surplus.len() as u64;
            pool.report.look_ups = pool.plan.look_up.len() as u64 + unanswered as u64;
            return Ok(unanswered);
        }
        self.close(pool, now).await?;
        self.drop_surplus(pool).await?;
        self.look_up_unlisted(pool).await?;
        self.record_below_since(pool, now).await?;
        self.end_needless_stop(pool).await?;
        Ok(if pool.report.stopped { 0 } else { unanswered })
    }

    /// Looks up the accounts of creations to which an earlier run got no answer. One that exists is adopted.
    pub(super) async fn look_up_unanswered(&mut self) -> Result<(), JobError> {
        let context = self.context();
        let policy = PolicyInForce::of(context);
        let mut pools = policy.read_pools(context, |_| false).await?;
        let now = context.clock.now();
        for pool in &mut pools {
            pool.apply_stop(self.job.probe_stopped, now);
            if pool.report.stopped {
                continue;
            }
            for number in pool.plan.unanswered.clone() {
                let Some(creation) = pool.creation(number).cloned() else {
                    continue;
                };
                if self.unanswered.contains(&creation.name)
                    || self.skipped.contains_key(pool.prefix())
                {
                    continue;
                }
                let Some(found) = self.look_up(pool, &creation).await? else {
                    continue;
                };
                match first_of(&creation, found) {
                    Some(account) => self.record_account(pool, &creation, account, true).await?,
                    None => drop(self.absent.insert(creation.name)),
                }
            }
        }
        Ok(())
    }

    /// Closes the creations that have ended.
    async fn close(&mut self, pool: &Pool, now: UnixSeconds) -> Result<(), JobError> {
        for closing in &pool.plan.closings {
            if self.is_over() {
                break;
            }
            if let Some(creation) = pool.creation(closing.number) {
                let step = CreationStep::Closed(*closing);
                self.step(pool, creation, &step, now).await?;
            }
        }
        Ok(())
    }

    /// Drops creations without an account that are no longer wanted.
    async fn drop_surplus(&mut self, pool: &mut Pool) -> Result<(), JobError> {
        for number in pool.plan.surplus.clone() {
            if self.is_over() {
                break;
            }
            if let Some(creation) = pool.creation(number).cloned() {
                self.drop_creation(pool, &creation).await?;
            }
        }
        Ok(())
    }

    /// Looks up the accounts that no sync lists. The creation of one that is gone is dropped.
    async fn look_up_unlisted(&mut self, pool: &mut Pool) -> Result<(), JobError> {
        for number in pool.plan.look_up.clone() {
            let Some(creation) = pool.creation(number).cloned() else {
                continue;
            };
            let Some(found) = self.look_up(pool, &creation).await? else {
                continue;
            };
            let id = creation.external_id.as_deref();
            let key = id.map(account_key);
            if found
                .iter()
                .any(|it| Some(account_key(&it.external_id)) == key)
            {
                let now = self.context().clock.now();
                self.step(pool, &creation, &CreationStep::LookedUp, now)
                    .await?;
            } else {
                tracing::warn!(
                    name = creation.name,
                    external_id = id,
                    "created account is gone"
                );
                self.drop_creation(pool, &creation).await?;
            }
        }
        Ok(())
    }

    /// Closes a creation without an account.
    pub(super) async fn drop_creation(
        &mut self,
        pool: &mut Pool,
        creation: &Creation,
    ) -> Result<(), JobError> {
        let step = CreationStep::Closed(Closing {
            number: creation.number,
            outcome: CreationOutcome::Dropped,
            available_at: None,
        });
        let now = self.context().clock.now();
        if self.step(pool, creation, &step, now).await? {
            self.report.dropped += 1;
            pool.report.drops += 1;
        }
        Ok(())
    }

    /// Records since when a pool has been below its target, where that has changed.
    async fn record_below_since(&self, pool: &Pool, now: UnixSeconds) -> Result<(), JobError> {
        let (state, report) = (&pool.items.state, &pool.report);
        let since = state.below_since(report.available < report.target.into(), now);
        if since != state.below_since {
            let (store, fence) = (&self.context().store, self.run.fence());
            store
                .record_below_since(fence, pool.prefix(), since)
                .await?;
        }
        Ok(())
    }

    /// Ends the stop of a pool that wants no accounts, so that the next ones are attempted.
    async fn end_needless_stop(&mut self, pool: &mut Pool) -> Result<(), JobError> {
        if pool.items.state.stop.is_some() && pool.report.wanted == 0 {
            self.end_stop(pool).await?;
        }
        Ok(())
    }

    /// Lets the pools take turns, one creation each, the most urgent one first. Leaves `reserved` of the run's budget.
    async fn take_turns(&mut self, pools: &mut [Pool], reserved: usize) -> Result<(), JobError> {
        let mut is_first = true;
        while self.budget > reserved && !self.is_over() {
            let urgent = pools
                .iter_mut()
                .filter_map(|pool| Some((pool.urgency()?, pool)));
            let Some((_, pool)) = urgent.min_by_key(|(urgency, _)| *urgency) else {
                break;
            };
            let now = self.context().clock.now();
            let Some((creation, is_new)) = pool.take_next(now) else {
                continue;
            };
            self.budget -= 1;
            if self.job.plan {
                pool.report.creations += 1;
                continue;
            }
            if !std::mem::take(&mut is_first) {
                self.pause_between().await;
                if self.is_over() {
                    break;
                }
            }
            self.create(pool, creation, is_new).await?;
            // CSP fails in this pool, however often it has its turn. The next turn is not taken from the others.
            if self.skipped.contains_key(pool.prefix()) && self.failures > 0 {
                self.failures -= 1;
                self.budget += 1;
            }
            self.run.progress(&self.report);
        }
        Ok(())
    }
}
