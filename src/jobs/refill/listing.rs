//! The part of refill in a sync: it records the creations whose accounts CSP lists.

use crate::{
    csp::AccountList,
    domain::{Account, Creation, CreationState, NamePrefix, account_key},
    jobs::{
        JobContext, RefillMode,
        run::{Report, Run},
    },
    store::{CreationStep, StoreError},
};

/// The open creations whose accounts CSP lists, with the ids of these.
#[derive(Debug, Default)]
pub(in crate::jobs) struct ListedCreations(Vec<(NamePrefix, Creation, String)>);

impl ListedCreations {
    /// Finds the open creations in CSP's list: by the id of the account, or by its name if the id is not known. Records
    /// the ids that are not known, before the sync inserts anything: a sandbox that is inserted, used and deleted before
    /// refill sees it must not leave a creation without an account.
    ///
    /// Makes no call unless refill is on and the policy has pools for which accounts are created.
    pub(in crate::jobs) async fn adopt<R: Report>(
        run: &Run<R>,
        list: &AccountList,
    ) -> Result<Self, StoreError> {
        let mut listed = Vec::new();
        for (prefix, creation) in waiting(run.context()).await? {
            let is_its = |account: &&Account| match &creation.external_id {
                Some(id) => account_key(&account.external_id) == account_key(id),
                None => account.name == creation.name,
            };
            let Some(account) = list.accounts.iter().find(is_its) else {
                continue;
            };
            let external_id = account.external_id.clone();
            if creation.external_id.is_some() {
                listed.push((prefix, creation, external_id));
                continue;
            }
            let step = CreationStep::Created {
                external_id: external_id.clone(),
            };
            if make(run, &prefix, &creation, &step).await? {
                let created = Creation {
                    state: CreationState::Created,
                    ..creation
                };
                listed.push((prefix, created, external_id));
            }
        }
        Ok(Self(listed))
    }

    /// Records that the pool has their sandboxes, once the sync has inserted all. A creation that has gone on meanwhile is
    /// left to the next sync.
    pub(in crate::jobs) async fn record<R: Report>(self, run: &Run<R>) -> Result<(), StoreError> {
        for (prefix, creation, external_id) in self.0 {
            let step = CreationStep::Listed { external_id };
            make(run, &prefix, &creation, &step).await?;
        }
        Ok(())
    }
}

/// Reads the creations without a sandbox. An unreadable one waits until it is corrected.
async fn waiting(context: &JobContext) -> Result<Vec<(NamePrefix, Creation)>, StoreError> {
    let mut waiting = Vec::new();
    if context.jobs.refill.mode != RefillMode::On {
        return Ok(waiting);
    }
    let policy = context.policy.current();
    for terms in policy.pools().iter().filter(|terms| terms.create.is_some()) {
        let items = context.store.refill_items(&terms.name_prefix).await?;
        let is_waiting = |creation: &Creation| creation.state != CreationState::Listed;
        let creations = items.creations.into_iter().filter(is_waiting);
        waiting.extend(creations.map(|creation| (terms.name_prefix.clone(), creation)));
    }
    Ok(waiting)
}

async fn make<R: Report>(
    run: &Run<R>,
    prefix: &NamePrefix,
    creation: &Creation,
    step: &CreationStep,
) -> Result<bool, StoreError> {
    let (context, fence) = (run.context(), run.fence());
    let now = context.clock.now();
    context.store.step(fence, prefix, creation, step, now).await
}
