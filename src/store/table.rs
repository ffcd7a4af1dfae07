//! Creation of the tables, and their comparison with the schema that the broker requires.

mod comparison;

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::create_table::CreateTableError,
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, IndexStatus, KeySchemaElement,
        KeyType, Projection, ProjectionType, ScalarAttributeType, TableDescription, TableStatus,
        TimeToLiveDescription, TimeToLiveSpecification, TimeToLiveStatus,
    },
};

pub use self::comparison::TableDifference;
use super::{PoolStore, StoreError};

const TTL_ATTRIBUTE: &str = "ttl";
/// The sort key of every index.
const INDEX_SORT_KEY: &str = "allocated_at";
const CREATE_DEADLINE: Duration = Duration::from_mins(5);
const CREATE_POLL: Duration = Duration::from_millis(200);

/// The result of `table create`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Creation {
    /// Both tables existed.
    Existed,
    /// At least one table was created.
    Created,
}

impl PoolStore {
    /// Creates the pool's table and the companion table, enables TTL, and waits until both are ready. An existing table
    /// is not changed, except that its TTL is enabled if its key is right; see
    /// [`compare_tables`](Self::compare_tables).
    ///
    /// # Errors
    /// [`StoreError`], also if a table is not ready after five minutes.
    pub async fn create_tables(&self) -> Result<Creation, StoreError> {
        let pool = self
            .create_table(&self.table.name, &self.table.indexes())
            .await?;
        let companion = self.create_table(&self.table.companion, &[]).await?;
        Ok(pool.max(companion))
    }

    async fn create_table(
        &self,
        name: &str,
        indexes: &[(&str, &str)],
    ) -> Result<Creation, StoreError> {
        const OPERATION: &str = "CreateTable";
        let creation = match self.send_create_table(name, indexes).await {
            Ok(()) => Creation::Created,
            Err(SdkError::ServiceError(context))
                if context.err().is_resource_in_use_exception() =>
            {
                Creation::Existed
            }
            Err(error) => return Err(StoreError::from_sdk(OPERATION, error)),
        };
        let ready = async {
            loop {
                match self.describe_table(name).await? {
                    Some(table) if is_active(&table) => return Ok::<_, StoreError>(table),
                    _ => tokio::time::sleep(CREATE_POLL).await,
                }
            }
        };
        let table = tokio::time::timeout(CREATE_DEADLINE, ready)
            .await
            .map_err(|elapsed| StoreError::unexpected(OPERATION, elapsed))??;
        if comparison::has_our_key(&table) {
            self.enable_ttl(name).await?;
        }
        Ok(creation)
    }

    async fn send_create_table(
        &self,
        name: &str,
        indexes: &[(&str, &str)],
    ) -> Result<(), SdkError<CreateTableError, aws_sdk_dynamodb::config::http::HttpResponse>> {
        let mut request = self
            .client
            .create_table()
            .table_name(name)
            .billing_mode(BillingMode::PayPerRequest)
            .key_schema(key("PK", KeyType::Hash)?)
            .key_schema(key("SK", KeyType::Range)?)
            .attribute_definitions(attribute("PK", ScalarAttributeType::S)?)
            .attribute_definitions(attribute("SK", ScalarAttributeType::S)?);
        if !indexes.is_empty() {
            request =
                request.attribute_definitions(attribute(INDEX_SORT_KEY, ScalarAttributeType::N)?);
        }
        for &(name, hash) in indexes {
            request = request
                .attribute_definitions(attribute(hash, ScalarAttributeType::S)?)
                .global_secondary_indexes(
                    GlobalSecondaryIndex::builder()
                        .index_name(name)
                        .key_schema(key(hash, KeyType::Hash)?)
                        .key_schema(key(INDEX_SORT_KEY, KeyType::Range)?)
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

    async fn describe_table(&self, name: &str) -> Result<Option<TableDescription>, StoreError> {
        match self.client.describe_table().table_name(name).send().await {
            Ok(answer) => Ok(answer.table),
            Err(SdkError::ServiceError(context))
                if context.err().is_resource_not_found_exception() =>
            {
                Ok(None)
            }
            Err(error) => Err(StoreError::from_sdk("DescribeTable", error)),
        }
    }

    async fn describe_ttl(&self, name: &str) -> Result<Option<TimeToLiveDescription>, StoreError> {
        let call = self.client.describe_time_to_live().table_name(name);
        let answer = call
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("DescribeTimeToLive", error))?;
        Ok(answer.time_to_live_description)
    }

    /// Enables TTL, unless it is enabled, on whichever attribute, or is being disabled.
    async fn enable_ttl(&self, name: &str) -> Result<(), StoreError> {
        let current = self.describe_ttl(name).await?;
        let status = current
            .as_ref()
            .and_then(TimeToLiveDescription::time_to_live_status);
        if !matches!(status, None | Some(TimeToLiveStatus::Disabled)) {
            return Ok(());
        }
        let specification = TimeToLiveSpecification::builder()
            .attribute_name(TTL_ATTRIBUTE)
            .enabled(true)
            .build()
            .map_err(|fault| StoreError::unexpected("UpdateTimeToLive", fault))?;
        self.client
            .update_time_to_live()
            .table_name(name)
            .time_to_live_specification(specification)
            .send()
            .await
            .map(drop)
            .map_err(|error| StoreError::from_sdk("UpdateTimeToLive", error))
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
