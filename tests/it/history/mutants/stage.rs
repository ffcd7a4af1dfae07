//! The stage of a scenario: a table, and a store whose calls go through a proxy that may carry a mutant.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::{FutureExt, future::BoxFuture};
use sandbox_broker::{
    clock::UnixSeconds,
    config::Config,
    domain::{
        Account, CallerId, Candidate, Holder, IdempotencyKey, LeaseTerms, Sandbox, SandboxId,
        Status,
    },
    store::{Change, ClaimOutcome, ClaimPrecondition, Fence, Item, NewAllocation, PoolStore},
    telemetry::metrics::Metrics,
};

use crate::support::{
    Pool, START, account, key,
    proxy::{Condition, Mutant, Proxy},
};

/// The outcome of a scenario: the promise that the store broke, if any.
pub(super) type Outcome = Result<(), String>;

/// A scenario with its name.
pub(super) type Scenario = (&'static str, fn(Stage) -> BoxFuture<'static, Outcome>);

pub(super) const TERMS: LeaseTerms = LeaseTerms {
    lab_duration_hours: 4,
    inherited_hours: 48,
    grace: Duration::from_mins(30),
};
pub(super) const HOUR: Duration = Duration::from_hours(1);

pub(super) struct Stage {
    pub(super) pool: Pool,
    pub(super) proxy: Arc<Proxy>,
    /// The store under test, behind the proxy. `pool.store` is not behind it.
    pub(super) store: PoolStore,
}

/// Names a scenario. The signature gives the closure its type.
pub(super) fn scenario<F>(
    name: &'static str,
    run: fn(Stage) -> BoxFuture<'static, F>,
) -> (&'static str, fn(Stage) -> BoxFuture<'static, F>) {
    (name, run)
}

/// Returns the violation unless the promise holds.
pub(super) fn must(holds: bool, violation: &str) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(violation.to_owned())
    }
}

pub(super) fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

pub(super) fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn id(name: &str) -> SandboxId {
    SandboxId::parse(name).unwrap()
}

pub(super) fn caller(name: &str) -> CallerId {
    CallerId::parse(name).unwrap()
}

pub(super) fn holder(name: &str) -> Holder {
    Holder {
        caller: caller(name),
        key: IdempotencyKey::parse(name).unwrap(),
        lab: None,
    }
}

/// Returns an allocation to `holder` for `hours`.
pub(super) fn allocation(holder: &Holder, at: UnixSeconds, hours: u32) -> NewAllocation<'_> {
    NewAllocation {
        holder,
        name_prefix: None,
        replaces: None,
        at,
        duration: HOUR * hours,
        grace: TERMS.grace,
        quota: None,
    }
}

pub(super) fn with_sfdc(name: &str, sfdc: &str) -> Account {
    Account {
        sfdc_account_id: Some(sfdc.to_owned()),
        ..account(name)
    }
}

impl Stage {
    async fn new(mutant: Option<Mutant>) -> Self {
        let pool = Pool::new().await;
        let proxy = Proxy::to(pool.engine.endpoint()).await;
        proxy.weaken(mutant);
        let variables = pool.variables(&[]);
        let config = Config::from_variables(&variables).unwrap();
        let store =
            PoolStore::connect(&config.store, Some(&proxy.endpoint()), Metrics::new()).await;
        let proxy = Arc::new(proxy);
        Self { pool, proxy, store }
    }

    /// Tries to allocate `account` through the proxy.
    pub(super) async fn claim(
        &self,
        account: &Account,
        by: &str,
        precondition: &ClaimPrecondition,
    ) -> ClaimOutcome {
        let candidate = Candidate::from(account);
        let holder = holder(by);
        let slot = self.store.slot().await;
        let allocation = allocation(&holder, START, 4);
        let claim = slot.claim(&candidate, allocation, precondition).await;
        claim.unwrap()
    }

    /// Inserts a sandbox and allocates it for `hours`.
    pub(super) async fn allocated(&self, name: &str, by: &str, at: UnixSeconds, hours: u32) {
        self.pool.add([name]).await;
        let candidate = Candidate::from(&account(name));
        let slot = self.pool.store.slot().await;
        let holder = holder(by);
        let allocation = allocation(&holder, at, hours);
        let claim = slot
            .claim(&candidate, allocation, &ClaimPrecondition::New)
            .await;
        assert!(matches!(claim.unwrap(), ClaimOutcome::Won(_)));
    }

    /// Inserts, allocates and releases a sandbox; returns it as read then, in `pending_deletion`.
    pub(super) async fn pending_deletion(&self, name: &str) -> Sandbox {
        self.allocated(name, name, START, 4).await;
        let store = &self.pool.store;
        let (id, caller) = (id(name), caller(name));
        let released = store.release(&id, &caller, "test", TERMS, START).await;
        released.unwrap();
        self.sandbox(name).await.unwrap()
    }

    /// Tries a change through the proxy and returns whether it was made.
    pub(super) async fn change(
        &self,
        fence: Option<&Fence>,
        change: Change,
        at: UnixSeconds,
    ) -> bool {
        self.store.apply(fence, &[change], 4, at).await.unwrap()[0]
    }

    pub(super) async fn sandbox(&self, name: &str) -> Option<Sandbox> {
        self.pool.store.get(&id(name)).await.unwrap()
    }

    pub(super) async fn status(&self, name: &str) -> Option<Status> {
        self.sandbox(name).await.map(|sandbox| sandbox.status)
    }

    /// Sets or removes attributes of a sandbox unconditionally.
    pub(super) async fn rewrite_sandbox(
        &self,
        name: &str,
        attributes: &[(&str, Option<AttributeValue>)],
    ) {
        let key = key(&format!("SBX#{name}"), "META");
        self.rewrite_pool(key, attributes).await;
    }

    /// Sets or removes attributes of an item of the pool's table unconditionally.
    pub(super) async fn rewrite_pool(
        &self,
        key: Item,
        attributes: &[(&str, Option<AttributeValue>)],
    ) {
        self.pool.rewrite(&self.pool.table, key, attributes).await;
    }

    /// Sets or removes attributes of an item of the companion table unconditionally.
    pub(super) async fn rewrite_companion(
        &self,
        key: Item,
        attributes: &[(&str, Option<AttributeValue>)],
    ) {
        self.pool
            .rewrite(&self.pool.companion, key, attributes)
            .await;
    }
}

/// Plays a scenario; returns its outcome and the conditional writes that it made.
pub(super) async fn play((_, run): Scenario, mutant: Option<Mutant>) -> (Outcome, Vec<Condition>) {
    let stage = Stage::new(mutant).await;
    let proxy = Arc::clone(&stage.proxy);
    let outcome = AssertUnwindSafe(run(stage)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| Err("panicked".to_owned()));
    (outcome, proxy.conditions())
}
