//! What the sync job reads and writes: every sandbox, and the changes that bring one in step with its account.

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::{
        transact_write_items::TransactWriteItemsError,
        update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    },
    types::{ConditionCheck, Put, TransactWriteItem},
};
use futures_util::{Stream, StreamExt, stream};

use super::{
    PoolStore, StoreError,
    item::{self, Item, SANDBOX_PREFIX, SANDBOX_SORT, number, string},
};
use crate::{
    clock::UnixSeconds,
    sandbox::{Account, Sandbox, SandboxId, Transition},
};

const TRANSACT: &str = "TransactWriteItems";

/// One page of the table.
#[derive(Debug)]
pub struct SandboxPage {
    /// The sandboxes on it.
    pub sandboxes: Vec<Sandbox>,
    /// Ids of sandbox items that cannot be read.
    pub unreadable: Vec<String>,
}

/// How an insertion of a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Every sandbox of the batch is in the table now.
    All,
    /// None is: at least one was there already, or left a tombstone, or another write was in the way.
    None,
}

impl PoolStore {
    /// Every sandbox of the table, a page at a time, each as it is when its page is read.
    pub fn sandbox_pages(
        &self,
    ) -> impl Stream<Item = Result<SandboxPage, StoreError>> + Send + Unpin + use<> {
        let pages = self
            .client
            .scan()
            .table_name(&self.table.name)
            .consistent_read(true)
            .filter_expression("SK = :meta AND begins_with(PK, :sandbox)")
            .expression_attribute_values(":meta", string(SANDBOX_SORT))
            .expression_attribute_values(":sandbox", string(SANDBOX_PREFIX))
            .into_paginator()
            .send();
        let store = self.clone();
        let pages = stream::unfold(pages, |mut pages| async {
            pages.next().await.map(|page| (page, pages))
        });
        pages
            .map(move |page| {
                let items = page
                    .map_err(|error| StoreError::from_sdk("Scan", error))?
                    .items
                    .unwrap_or_default();
                Ok(store.read_page(items))
            })
            .boxed()
    }

    fn read_page(&self, items: Vec<Item>) -> SandboxPage {
        let mut page = SandboxPage {
            sandboxes: Vec::with_capacity(items.len()),
            unreadable: Vec::new(),
        };
        for item in items {
            let key = item
                .get("PK")
                .and_then(|key| key.as_s().ok())
                .cloned()
                .unwrap_or_default();
            match self.read_or_skip(item) {
                Some(sandbox) => page.sandboxes.push(sandbox),
                None => page
                    .unreadable
                    .push(key.trim_start_matches(SANDBOX_PREFIX).to_owned()),
            }
        }
        page
    }

    /// Puts new sandboxes into the pool, all or none. A sandbox is new if the table has neither it nor its tombstone:
    /// one that had a holder must not come back, however late CSP forgets it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert(
        &self,
        accounts: &[Account],
        lab_duration_hours: u32,
        now: UnixSeconds,
    ) -> Result<Inserted, StoreError> {
        let mut request = self.client.transact_write_items();
        for account in accounts {
            let put = item::new_sandbox(account, lab_duration_hours, now)
                .map_err(|fault| StoreError::unexpected(TRANSACT, fault))
                .and_then(|item| {
                    Put::builder()
                        .table_name(&self.table.name)
                        .set_item(Some(item))
                        .condition_expression("attribute_not_exists(PK)")
                        .build()
                        .map_err(|fault| StoreError::unexpected(TRANSACT, fault))
                })?;
            let no_tombstone = ConditionCheck::builder()
                .table_name(&self.table.name)
                .set_key(Some(item::tombstone_key(&account.sandbox_id)))
                .condition_expression("attribute_not_exists(PK)")
                .build()
                .map_err(|fault| StoreError::unexpected(TRANSACT, fault))?;
            request = request
                .transact_items(TransactWriteItem::builder().put(put).build())
                .transact_items(
                    TransactWriteItem::builder()
                        .condition_check(no_tombstone)
                        .build(),
                );
        }
        let _slot = self.slot().await;
        match request.send().await {
            Ok(_) => Ok(Inserted::All),
            Err(SdkError::ServiceError(context))
                if matches!(
                    context.err(),
                    TransactWriteItemsError::TransactionCanceledException(_)
                        | TransactWriteItemsError::TransactionInProgressException(_)
                ) =>
            {
                Ok(Inserted::None)
            }
            Err(error) => Err(StoreError::from_sdk(TRANSACT, error)),
        }
    }

    /// Takes an available sandbox that CSP no longer lists out of the pool.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_stale(&self, id: &SandboxId, now: UnixSeconds) -> Result<bool, StoreError> {
        let update = self
            .transition(id, Transition::MarkStale, now)
            .update_expression("SET #status = :to, updated_at = :now")
            .condition_expression("#status = :from");
        applied(self, update).await
    }

    /// Puts a stale sandbox that CSP lists again back into the pool, unless it ever had a holder.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn restore(&self, account: &Account, now: UnixSeconds) -> Result<bool, StoreError> {
        let update = self
            .transition(&account.sandbox_id, Transition::Restore, now)
            .condition_expression("#status = :from AND allocated_at = :never")
            .expression_attribute_values(":never", number(0));
        applied(self, describe(update, account)).await
    }

    /// Brings what the pool knows of an available sandbox in line with its account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn update_account(
        &self,
        account: &Account,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(item::sandbox_key(&account.sandbox_id)))
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":to", string(crate::sandbox::Status::Available.as_str()))
            .expression_attribute_values(":now", number(now.0))
            .condition_expression("#status = :to");
        applied(self, describe(update, account)).await
    }

    fn transition(
        &self,
        id: &SandboxId,
        transition: Transition,
        now: UnixSeconds,
    ) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(item::sandbox_key(id)))
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":from", string(transition.from().as_str()))
            .expression_attribute_values(":to", string(transition.to().as_str()))
            .expression_attribute_values(":now", number(now.0))
    }
}

/// Sets everything that comes from the account.
fn describe(update: UpdateItemFluentBuilder, account: &Account) -> UpdateItemFluentBuilder {
    const SET: &str = "SET #status = :to, #name = :name, external_id = :external_id, updated_at = :now, last_synced = :now";
    let update = update
        .expression_attribute_names("#name", "name")
        .expression_attribute_values(":name", string(&account.name))
        .expression_attribute_values(":external_id", string(&account.external_id));
    match &account.sfdc_account_id {
        Some(sfdc) => update
            .update_expression(format!("{SET}, sfdc_account_id = :sfdc"))
            .expression_attribute_values(":sfdc", string(sfdc)),
        None => update.update_expression(format!("{SET} REMOVE sfdc_account_id")),
    }
}

/// Whether the write's condition held.
async fn applied(store: &PoolStore, update: UpdateItemFluentBuilder) -> Result<bool, StoreError> {
    let _slot = store.slot().await;
    match update.send().await {
        Ok(_) => Ok(true),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(UpdateItemError::is_conditional_check_failed_exception) =>
        {
            Ok(false)
        }
        Err(error) => Err(StoreError::from_sdk("UpdateItem", error)),
    }
}
