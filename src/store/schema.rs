//! The table itself: making it, and bringing one that the FastAPI service wrote up to date.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::{
        create_table::CreateTableError,
        put_item::{PutItemError, builders::PutItemFluentBuilder},
    },
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, IndexStatus, KeySchemaElement,
        KeyType, Projection, ProjectionType, ScalarAttributeType, TableDescription, TableStatus,
        TimeToLiveSpecification, TimeToLiveStatus,
    },
};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    ClaimTarget, PoolStore, StoreError, StoredClaim, claim,
    item::{number, schema_key, string},
};
use crate::{
    clock::UnixSeconds,
    domain::{Holder, LeaseTerms, Sandbox, SandboxId, Status},
};

/// The version of the table's layout that this broker writes.
pub const SCHEMA_VERSION: u32 = 1;

const CREATE_DEADLINE: Duration = Duration::from_mins(5);
const CREATE_POLL: Duration = Duration::from_millis(200);
const MIGRATE_CONCURRENCY: usize = 16;

/// What `table create` found or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Creation {
    /// The table was made.
    Created,
    /// It was there.
    Existed,
}

/// What `table migrate` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Migration {
    /// Sandboxes that have a holder.
    pub allocated: usize,
    /// Claims written for them; the rest had one.
    pub claims_written: usize,
    /// Sandboxes left without a claim of their own because the same caller holds a newer one under the same key.
    pub duplicates: usize,
}

impl PoolStore {
    /// Makes the table, its indexes and its TTL, and waits until they can be used. Does nothing to what is there.
    ///
    /// # Errors
    /// [`StoreError`], also when the table is not ready after five minutes.
    pub async fn create_table(&self) -> Result<Creation, StoreError> {
        const OPERATION: &str = "CreateTable";
        let creation = match self.send_create_table().await {
            Ok(()) => Creation::Created,
            Err(SdkError::ServiceError(context))
                if context.err().is_resource_in_use_exception() =>
            {
                Creation::Existed
            }
            Err(error) => return Err(StoreError::from_sdk(OPERATION, error)),
        };
        let ready = async {
            while !self
                .describe_table()
                .await?
                .is_some_and(|table| is_active(&table))
            {
                tokio::time::sleep(CREATE_POLL).await;
            }
            Ok::<_, StoreError>(())
        };
        tokio::time::timeout(CREATE_DEADLINE, ready)
            .await
            .map_err(|elapsed| StoreError::unexpected(OPERATION, elapsed))??;
        self.enable_ttl().await?;
        Ok(creation)
    }

    async fn send_create_table(
        &self,
    ) -> Result<(), SdkError<CreateTableError, aws_sdk_dynamodb::config::http::HttpResponse>> {
        let mut request = self
            .client
            .create_table()
            .table_name(&self.table.name)
            .billing_mode(BillingMode::PayPerRequest)
            .key_schema(key("PK", KeyType::Hash)?)
            .key_schema(key("SK", KeyType::Range)?)
            .attribute_definitions(attribute("PK", ScalarAttributeType::S)?)
            .attribute_definitions(attribute("SK", ScalarAttributeType::S)?)
            .attribute_definitions(attribute("allocated_at", ScalarAttributeType::N)?);
        for (name, hash) in self.table.indexes() {
            request = request
                .attribute_definitions(attribute(hash, ScalarAttributeType::S)?)
                .global_secondary_indexes(
                    GlobalSecondaryIndex::builder()
                        .index_name(name)
                        .key_schema(key(hash, KeyType::Hash)?)
                        .key_schema(key("allocated_at", KeyType::Range)?)
                        .projection(
                            Projection::builder()
                                .projection_type(ProjectionType::All)
                                .build(),
                        )
                        .build()
                        .map_err(SdkError::construction_failure)?,
                );
        }
        request.send().await.map(drop)
    }

    async fn describe_table(&self) -> Result<Option<TableDescription>, StoreError> {
        match self
            .client
            .describe_table()
            .table_name(&self.table.name)
            .send()
            .await
        {
            Ok(answer) => Ok(answer.table),
            Err(SdkError::ServiceError(context))
                if context.err().is_resource_not_found_exception() =>
            {
                Ok(None)
            }
            Err(error) => Err(StoreError::from_sdk("DescribeTable", error)),
        }
    }

    async fn enable_ttl(&self) -> Result<(), StoreError> {
        let current = self
            .client
            .describe_time_to_live()
            .table_name(&self.table.name)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DescribeTimeToLive", error))?;
        let status = current
            .time_to_live_description()
            .and_then(|ttl| ttl.time_to_live_status());
        if matches!(
            status,
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
        ) {
            return Ok(());
        }
        let specification = TimeToLiveSpecification::builder()
            .attribute_name("ttl")
            .enabled(true)
            .build()
            .map_err(|fault| StoreError::unexpected("UpdateTimeToLive", fault))?;
        self.client
            .update_time_to_live()
            .table_name(&self.table.name)
            .time_to_live_specification(specification)
            .send()
            .await
            .map(drop)
            .map_err(|error| StoreError::from_sdk("UpdateTimeToLive", error))
    }

    /// The version in the schema item; `None` for a table that has none yet. The cheapest read there is, so it also
    /// serves as the check that the database answers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn schema_version(&self) -> Result<Option<u32>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table.name)
            .set_key(Some(schema_key()))
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("GetItem", error))?;
        let Some(item) = answer.item else {
            return Ok(None);
        };
        let version = item
            .get("version")
            .and_then(|version| version.as_n().ok())
            .and_then(|text| text.parse().ok());
        version
            .map(Some)
            .ok_or_else(|| StoreError::unexpected("GetItem", "the schema item has no version"))
    }

    /// Writes a claim for every allocated sandbox that lacks one, so that its holder's retry returns it, and then the
    /// schema item. May be run again at any time, beside allocations too: no claim is written over another.
    ///
    /// # Errors
    /// [`StoreError`]; what was written stays, and a second run goes on.
    pub async fn migrate(
        &self,
        terms: LeaseTerms,
        now: UnixSeconds,
    ) -> Result<Migration, StoreError> {
        let mut newest: HashMap<_, (Holder, Sandbox)> = HashMap::new();
        let mut allocated = 0;
        let mut pages = self.sandbox_pages();
        while let Some(page) = pages.next().await {
            for sandbox in page?.sandboxes {
                let Some(holder) = sandbox
                    .holder
                    .clone()
                    .filter(|_| sandbox.status == Status::Allocated)
                else {
                    continue;
                };
                allocated += 1;
                let pair = (holder.caller.clone(), holder.key.clone());
                if newest
                    .get(&pair)
                    .is_none_or(|(_, other)| other.allocated_at < sandbox.allocated_at)
                {
                    newest.insert(pair, (holder, sandbox));
                }
            }
        }
        let duplicates = allocated - newest.len();
        let claims_written = stream::iter(newest.into_values())
            .map(|(holder, sandbox)| async move {
                self.put_missing_claim(&sandbox, &holder, terms).await
            })
            .buffer_unordered(MIGRATE_CONCURRENCY)
            .try_fold(0, async |written, new| Ok(written + usize::from(new)))
            .await?;
        self.put_schema(now).await?;
        Ok(Migration {
            allocated,
            claims_written,
            duplicates,
        })
    }

    /// Writes the claim for an allocation that has none, or over one that points at what the pair no longer holds: it
    /// may have given that back here, and got this one from the FastAPI service since.
    async fn put_missing_claim(
        &self,
        sandbox: &Sandbox,
        holder: &Holder,
        terms: LeaseTerms,
    ) -> Result<bool, StoreError> {
        let terms = LeaseTerms {
            lab_duration_hours: sandbox.lab_duration_hours,
            ..terms
        };
        let item = claim::claim_item(sandbox.id(), holder, terms, sandbox.allocated_at);
        let put = self
            .client
            .put_item()
            .table_name(&self.table.name)
            .set_item(Some(item));
        let none = put.clone().condition_expression("attribute_not_exists(PK)");
        if self.put_if(none).await? {
            return Ok(true);
        }
        let StoredClaim::Readable(pointer) = self.find_claim(&holder.caller, &holder.key).await?
        else {
            return Ok(false);
        };
        if self.is_held(&pointer, holder).await? {
            return Ok(false);
        }
        let leftover = put
            .condition_expression("sandbox_id = :sandbox AND allocated_at = :allocated_at")
            .expression_attribute_values(":sandbox", string(pointer.sandbox_id))
            .expression_attribute_values(":allocated_at", number(pointer.allocated_at));
        self.put_if(leftover).await
    }

    async fn is_held(&self, pointer: &ClaimTarget, holder: &Holder) -> Result<bool, StoreError> {
        let Ok(id) = SandboxId::parse(&pointer.sandbox_id) else {
            return Ok(false);
        };
        let sandbox = self.get(&id).await?;
        Ok(sandbox.is_some_and(|sandbox| {
            sandbox.status == Status::Allocated
                && sandbox.allocated_at.0 == pointer.allocated_at
                && sandbox.is_held_by(&holder.caller, &holder.key)
        }))
    }

    /// Whether the condition held.
    async fn put_if(&self, put: PutItemFluentBuilder) -> Result<bool, StoreError> {
        match put.send().await {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(PutItemError::is_conditional_check_failed_exception) =>
            {
                Ok(false)
            }
            Err(error) => Err(StoreError::from_sdk("PutItem", error)),
        }
    }

    async fn put_schema(&self, now: UnixSeconds) -> Result<(), StoreError> {
        let mut item = schema_key();
        item.insert("version".to_owned(), number(SCHEMA_VERSION));
        item.insert("updated_at".to_owned(), number(now.0));
        self.client
            .put_item()
            .table_name(&self.table.name)
            .set_item(Some(item))
            .send()
            .await
            .map(drop)
            .map_err(|error| StoreError::from_sdk("PutItem", error))
    }
}

fn is_active(table: &TableDescription) -> bool {
    table.table_status() == Some(&TableStatus::Active)
        && table
            .global_secondary_indexes()
            .iter()
            .all(|index| index.index_status() == Some(&IndexStatus::Active))
}

fn key<E, R>(name: &str, kind: KeyType) -> Result<KeySchemaElement, SdkError<E, R>> {
    KeySchemaElement::builder()
        .attribute_name(name)
        .key_type(kind)
        .build()
        .map_err(SdkError::construction_failure)
}

fn attribute<E, R>(
    name: &str,
    kind: ScalarAttributeType,
) -> Result<AttributeDefinition, SdkError<E, R>> {
    AttributeDefinition::builder()
        .attribute_name(name)
        .attribute_type(kind)
        .build()
        .map_err(SdkError::construction_failure)
}
