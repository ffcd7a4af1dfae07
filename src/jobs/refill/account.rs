//! The creation of one account: its item, the look-up, the request, and the consequences of each answer.

use std::time::Duration;

use tokio::time::Instant;

use super::{Refill, Skip, pool::Pool};
use crate::{
    clock::UnixSeconds,
    csp::{CreatedAccount, CspError, NewAccount, throttle::BreakerDecision},
    domain::{Creation, CreationState, MAX_REASON, RefillStop, one_line},
    jobs::JobError,
    store::{CreationStep, StoreError},
    telemetry::chain,
};

/// How long the write before a request may take. After a longer one, nothing is requested: another run may have taken over
/// and looked up the account.
const LONGEST_WRITE: Duration = Duration::from_secs(5);

/// The number of conflicts after which a creation is dropped: CSP refuses its name as taken, but finds no account.
const MAX_CONFLICTS: u32 = 3;

impl Refill<'_> {
    /// Creates the account of a creation, or adopts it if it exists.
    pub(super) async fn create(
        &mut self,
        pool: &mut Pool,
        creation: Creation,
        is_new: bool,
    ) -> Result<(), JobError> {
        if !self.is_admitted() {
            return Ok(());
        }
        pool.report.creations += 1;
        let context = self.context();
        if is_new {
            let fence = self.run.fence();
            if !context
                .store
                .intend(fence, pool.prefix(), &creation)
                .await?
            {
                pool.skip("its items have changed since they were read");
                return Ok(());
            }
        }
        // Also before the first request: the table may have been restored to an earlier state.
        if !self.absent.contains(&creation.name) {
            let Some(found) = self.find(pool, &creation).await? else {
                return Ok(());
            };
            if let Some(account) = first_of(&creation, found) {
                return self.record_account(pool, &creation, account, true).await;
            }
        }
        self.request(pool, creation).await?;
        if pool.is_probe && pool.report.reason.is_none() {
            pool.skip("the account of a stopped pool was requested without success");
        }
        Ok(())
    }

    /// Requests the account from CSP, once.
    async fn request(&mut self, pool: &mut Pool, creation: Creation) -> Result<(), JobError> {
        let context = self.context();
        let Some(terms) = pool.terms.create.clone() else {
            return Ok(());
        };
        let (before, now) = (Instant::now(), context.clock.now());
        if !self
            .step(pool, &creation, &CreationStep::Attempt, now)
            .await?
        {
            pool.skip("its items have changed since they were read");
            return Ok(());
        }
        let attempted = Creation {
            state: CreationState::Attempted,
            attempts: creation.attempts.saturating_add(1),
            attempted_at: Some(now),
            ..creation
        };
        if before.elapsed() > LONGEST_WRITE {
            tracing::warn!(
                name = attempted.name,
                "account not requested: the table is slow"
            );
            self.leave_unanswered(&attempted);
            return Ok(());
        }
        let request = NewAccount::new(&attempted.name, &terms);
        let error = match context.csp.create_account(&request).await {
            Ok(account) => {
                self.answered();
                return self.record_account(pool, &attempted, account, false).await;
            }
            Err(error) => error,
        };
        self.not_created(pool, attempted, error).await
    }

    /// Records the consequences of a request that was answered with an error.
    async fn not_created(
        &mut self,
        pool: &mut Pool,
        attempted: Creation,
        error: CspError,
    ) -> Result<(), JobError> {
        let context = self.context();
        tracing::warn!(
            name = attempted.name,
            may_exist = error.may_have_created(),
            cause = chain(&error),
            "account not created"
        );
        match error {
            CspError::Conflict { status } => {
                self.answered();
                let is_taken = status == 409;
                return self.adopt_or_drop(pool, &attempted, is_taken).await;
            }
            ref error if error.may_have_created() => self.leave_unanswered(&attempted),
            CspError::Unavailable { .. } | CspError::Unauthorized { .. } => {
                let now = context.clock.now();
                self.step(pool, &attempted, &CreationStep::NotCreated, now)
                    .await?;
            }
            ref error => {
                self.report.failed += 1;
                let stop = self.stop_for(pool, error);
                let refused = CreationStep::Refused(stop.clone());
                let now = context.clock.now();
                self.step(pool, &attempted, &refused, now).await?;
                self.answered();
                self.stop_pool(pool, stop);
                return Ok(());
            }
        }
        self.fail(pool, error).await
    }

    /// Adopts the account of a creation that conflicts with the state of CSP. If CSP does not find it, the creation is left to
    /// the next runs. After several attempts it is dropped if its name is taken, and the next one has another name; any other
    /// conflict leaves open whether the request takes effect.
    async fn adopt_or_drop(
        &mut self,
        pool: &mut Pool,
        attempted: &Creation,
        is_taken: bool,
    ) -> Result<(), JobError> {
        let found = self.find(pool, attempted).await?;
        let is_missing = found.as_ref().is_some_and(Vec::is_empty);
        if let Some(account) = found.and_then(|found| first_of(attempted, found)) {
            return self.record_account(pool, attempted, account, true).await;
        }
        if is_missing && is_taken && attempted.attempts >= MAX_CONFLICTS {
            tracing::warn!(name = attempted.name, "name of an account is taken");
            self.drop_creation(pool, attempted).await?;
            // If CSP refuses every name with 409, only a stop shows it to operators.
            let reason =
                "CSP answers 409 to the creation of an account, but finds none of its name";
            let now = self.context().clock.now();
            let stop = RefillStop::new(reason.to_owned(), now, pool.policy_version);
            let (store, fence) = (&self.context().store, self.run.fence());
            store.stop_refill(fence, pool.prefix(), &stop).await?;
            self.stop_pool(pool, stop);
            return Ok(());
        }
        self.leave_unanswered(attempted);
        let reason = "CSP answers with a conflict, but finds no account of the name";
        self.skip_pool(pool, reason.to_owned(), false);
        Ok(())
    }

    /// Records the account of a creation.
    pub(super) async fn record_account(
        &mut self,
        pool: &mut Pool,
        creation: &Creation,
        account: CreatedAccount,
        is_adopted: bool,
    ) -> Result<(), JobError> {
        let CreatedAccount { external_id } = account;
        let (name, now) = (&creation.name, self.context().clock.now());
        let step = CreationStep::Created {
            external_id: external_id.clone(),
        };
        // Logged before it is written: the account exists even if the write fails.
        if is_adopted {
            tracing::info!(name, external_id, pool = %pool.prefix(), "account adopted");
        } else {
            tracing::info!(name, external_id, pool = %pool.prefix(), "account created");
        }
        match self.step(pool, creation, &step, now).await {
            Err(JobError::Store(StoreError::Superseded)) => {
                tracing::warn!(
                    name,
                    external_id,
                    "account created by a run that lost its lease"
                );
                return Err(StoreError::Superseded.into());
            }
            // If the creation has changed, a sync has its sandbox already.
            written => written.map(drop)?,
        }
        if is_adopted {
            self.report.adopted += 1;
            return Ok(());
        }
        self.report.created += 1;
        if std::mem::take(&mut pool.is_probe) {
            self.end_stop(pool).await?;
        }
        Ok(())
    }

    /// Looks up the account of an earlier creation. `None` if this run makes no more such calls, or the call failed.
    pub(super) async fn look_up(
        &mut self,
        pool: &mut Pool,
        creation: &Creation,
    ) -> Result<Option<Vec<CreatedAccount>>, JobError> {
        if self.look_ups == 0 || self.is_over() || !self.is_admitted() {
            return Ok(None);
        }
        self.look_ups -= 1;
        pool.report.look_ups += 1;
        let found = self.find(pool, creation).await?;
        self.pause_between().await;
        Ok(found)
    }

    /// Finds the accounts with the name of a creation. `None` if the call failed, which has been handled.
    async fn find(
        &mut self,
        pool: &mut Pool,
        creation: &Creation,
    ) -> Result<Option<Vec<CreatedAccount>>, JobError> {
        match self.context().csp.find_accounts(&creation.name).await {
            Ok(found) => {
                self.answered();
                Ok(Some(found))
            }
            Err(error) => {
                tracing::warn!(
                    name = creation.name,
                    cause = chain(&error),
                    "account could not be looked for"
                );
                self.fail(pool, error).await?;
                Ok(None)
            }
        }
    }

    /// Returns whether the circuit breaker admits a call; if not, ends the run.
    fn is_admitted(&mut self) -> bool {
        if let BreakerDecision::Refused(until) = self.context().csp_breaker.admit() {
            self.end(format!(
                "CSP is unavailable; creations resume after {}",
                until.iso()
            ));
        }
        !self.is_ended
    }

    fn answered(&mut self) {
        self.context().csp_breaker.succeeded();
        self.has_answers = true;
    }

    /// Leaves a creation to a later run: its request may still take effect.
    fn leave_unanswered(&mut self, creation: &Creation) {
        self.report.unanswered += 1;
        self.unanswered.insert(creation.name.clone());
    }

    /// Handles a failed call: it ends the run, stops the pool, or skips the pool in this run.
    async fn fail(&mut self, pool: &mut Pool, error: CspError) -> Result<(), JobError> {
        let text = one_line(&chain(&error), MAX_REASON);
        if matches!(error, CspError::Unauthorized { .. }) {
            return Err(error.into());
        }
        if !error.is_outage() {
            self.answered();
            let stop = self.stop_for(pool, &error);
            let (store, fence) = (&self.context().store, self.run.fence());
            store.stop_refill(fence, pool.prefix(), &stop).await?;
            self.stop_pool(pool, stop);
            return Ok(());
        }
        self.context().csp_breaker.failed(error.retry_after());
        self.has_outage = true;
        // A request that CSP never serves in one pool must not keep the others from their turns.
        self.skip_pool(pool, text.clone(), false);
        let reason = format!("{text}; the rest is left to a later run");
        if matches!(error, CspError::RateLimited { .. }) {
            self.end(reason);
        } else {
            self.report.stopped = Some(reason);
        }
        Ok(())
    }

    fn stop_for(&self, pool: &Pool, error: &CspError) -> RefillStop {
        let reason = one_line(&chain(error), MAX_REASON);
        RefillStop::new(reason, self.context().clock.now(), pool.policy_version)
    }

    fn stop_pool(&mut self, pool: &mut Pool, stop: RefillStop) {
        tracing::warn!(pool = %pool.prefix(), reason = stop.reason, "refill stopped");
        self.skip_pool(pool, stop.report_reason(), true);
        pool.items.state.stop = Some(stop);
    }

    /// Creates no more accounts of the pool in this run.
    fn skip_pool(&mut self, pool: &mut Pool, reason: String, is_stop: bool) {
        let skip = Skip { reason, is_stop };
        pool.apply_skip(&skip);
        self.skipped.insert(pool.prefix().clone(), skip);
    }

    pub(super) async fn end_stop(&self, pool: &mut Pool) -> Result<(), JobError> {
        let store = &self.context().store;
        store
            .end_refill_stop(self.run.fence(), pool.prefix())
            .await?;
        pool.items.state.stop = None;
        tracing::info!(pool = %pool.prefix(), "refill resumed");
        Ok(())
    }

    /// Makes a step of a creation. Returns `false` if the creation has changed since it was read.
    pub(super) async fn step(
        &self,
        pool: &Pool,
        creation: &Creation,
        step: &CreationStep,
        now: UnixSeconds,
    ) -> Result<bool, JobError> {
        let (store, fence) = (&self.context().store, self.run.fence());
        let made = store
            .step(fence, pool.prefix(), creation, step, now)
            .await?;
        Ok(made)
    }
}

/// Returns the account to adopt, if there is one. CSP gives several accounts one name.
pub(super) fn first_of(creation: &Creation, found: Vec<CreatedAccount>) -> Option<CreatedAccount> {
    if found.len() > 1 {
        tracing::warn!(
            name = creation.name,
            accounts = found.len(),
            "several accounts have the name of one creation"
        );
    }
    found.into_iter().next()
}
