//! The comparison of the tables with the schema that the broker requires.

use std::fmt;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, GlobalSecondaryIndexDescription, IndexStatus, KeySchemaElement, KeyType,
    ProjectionType, TableDescription, TableStatus, TimeToLiveDescription, TimeToLiveStatus,
};

use super::{INDEX_SORT_KEY, TTL_ATTRIBUTE};
use crate::store::{PoolStore, StoreError, TableNames};

/// The number of indexes that the broker reads. The last one, by idempotency key, is for the FastAPI service only.
const INDEXES_READ: usize = 2;
const KEY: &str = "PK (S), SK (S)";

/// A difference between a table and the schema that the broker requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDifference {
    /// Whether the broker must not use the table until it is corrected.
    pub is_fatal: bool,
    /// The difference, and the remedy.
    text: String,
}

impl fmt::Display for TableDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TableDifference {
    fn fatal(text: String) -> Self {
        Self {
            is_fatal: true,
            text,
        }
    }

    fn tolerable(text: String) -> Self {
        Self {
            is_fatal: false,
            text,
        }
    }
}

/// One of the two tables, as the broker requires it.
#[derive(Clone, Copy)]
struct RequiredTable<'a> {
    /// How messages name it: `/readyz` is public, so it does not show the table's name.
    title: &'static str,
    variable: &'static str,
    name: &'a str,
    indexes: &'a [(&'a str, &'static str)],
}

impl PoolStore {
    /// Compares the pool's table and the companion table with the schema that the broker requires: keys and
    /// their types, indexes, TTL and status.
    ///
    /// # Errors
    /// [`StoreError`], such as [`StoreError::Denied`] without the permissions `DescribeTable` and
    /// `DescribeTimeToLive`.
    pub async fn compare_tables(&self) -> Result<Vec<TableDifference>, StoreError> {
        let indexes = self.table.indexes();
        let (pool, companion) = required_tables(&self.table, &indexes);
        let (mut pool, companion) = tokio::try_join!(self.compare(pool), self.compare(companion))?;
        pool.extend(companion);
        Ok(pool)
    }

    async fn compare(
        &self,
        required: RequiredTable<'_>,
    ) -> Result<Vec<TableDifference>, StoreError> {
        let Some(table) = self.describe_table(required.name).await? else {
            return Ok(vec![TableDifference::fatal(format!(
                "{} does not exist: run `sandbox-broker table create`, or correct {}",
                required.title, required.variable
            ))]);
        };
        let mut differences = shape(required, &table);
        let ttl = self.describe_ttl(required.name).await?;
        differences.extend(ttl_difference(required.title, ttl.as_ref()));
        Ok(differences)
    }
}

fn required_tables<'a>(
    table: &'a TableNames,
    indexes: &'a [(&'a str, &'static str)],
) -> (RequiredTable<'a>, RequiredTable<'a>) {
    let pool = RequiredTable {
        title: "the pool's table",
        variable: "DDB_TABLE_NAME",
        name: &table.name,
        indexes,
    };
    let companion = RequiredTable {
        title: "the companion table",
        variable: "DDB_COMPANION_TABLE_NAME",
        name: &table.companion,
        indexes: &[],
    };
    (pool, companion)
}

/// Whether the key of a table is that of the broker's tables, so that it may be changed.
pub(super) fn has_our_key(table: &TableDescription) -> bool {
    key_text(table.key_schema(), table.attribute_definitions()) == KEY
}

fn shape(required: RequiredTable<'_>, table: &TableDescription) -> Vec<TableDifference> {
    let RequiredTable {
        title, variable, ..
    } = required;
    let mut differences = Vec::new();
    // A table that is being updated can be used.
    if let Some(status) = table.table_status()
        && !matches!(status, TableStatus::Active | TableStatus::Updating)
    {
        differences.push(TableDifference::fatal(format!(
            "{title} is {status}: wait until it is ACTIVE"
        )));
    }
    let key = key_text(table.key_schema(), table.attribute_definitions());
    if !has_our_key(table) {
        differences.push(TableDifference::fatal(format!(
            "{title} has the key {key} instead of {KEY}, which cannot be changed: set {variable} to another table"
        )));
    }
    for (number, &(name, hash)) in required.indexes.iter().enumerate() {
        let found = table
            .global_secondary_indexes()
            .iter()
            .find(|index| index.index_name() == Some(name));
        let text = index_difference(title, name, hash, found, table.attribute_definitions());
        differences.extend(text.map(|text| TableDifference {
            is_fatal: number < INDEXES_READ,
            text,
        }));
    }
    differences
}

fn index_difference(
    title: &str,
    name: &str,
    hash: &str,
    found: Option<&GlobalSecondaryIndexDescription>,
    attributes: &[AttributeDefinition],
) -> Option<String> {
    let needed = format!("{hash} (S), {INDEX_SORT_KEY} (N)");
    let Some(index) = found else {
        return Some(format!(
            "{title} has no index {name}: add it with the key {needed} and the projection ALL, or correct the \
             variables DDB_GSI*_NAME"
        ));
    };
    let key = key_text(index.key_schema(), attributes);
    let projection = index
        .projection()
        .and_then(|projection| projection.projection_type());
    if key != needed || projection != Some(&ProjectionType::All) {
        let projection = projection.map_or("none", ProjectionType::as_str);
        return Some(format!(
            "the index {name} of {title} has the key {key} and the projection {projection} instead of {needed} and \
             ALL: delete it, and add it anew"
        ));
    }
    match index.index_status() {
        None | Some(IndexStatus::Active | IndexStatus::Updating) => None,
        Some(status) => Some(format!(
            "the index {name} of {title} is {status}: wait until it is ACTIVE"
        )),
    }
}

/// Compares TTL. On another attribute, DynamoDB deletes items that the broker needs.
fn ttl_difference(title: &str, ttl: Option<&TimeToLiveDescription>) -> Option<TableDifference> {
    let attribute = ttl.and_then(TimeToLiveDescription::attribute_name);
    match ttl.and_then(TimeToLiveDescription::time_to_live_status) {
        Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
            if attribute == Some(TTL_ATTRIBUTE) =>
        {
            None
        }
        Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling) => {
            let attribute = attribute.unwrap_or("another attribute");
            Some(TableDifference::fatal(format!(
                "TTL of {title} is enabled on {attribute} instead of {TTL_ATTRIBUTE}, so it deletes other items: \
                 disable it, and then run `sandbox-broker table create`"
            )))
        }
        _ => Some(TableDifference::tolerable(format!(
            "TTL of {title} is not enabled on {TTL_ATTRIBUTE}, so nothing removes old items: run \
             `sandbox-broker table create`, an hour later if TTL was just disabled"
        ))),
    }
}

/// Describes a key as "hash (type), range (type)".
fn key_text(schema: &[KeySchemaElement], attributes: &[AttributeDefinition]) -> String {
    let part = |kind: KeyType| {
        schema
            .iter()
            .filter(move |element| element.key_type() == &kind)
            .map(|element| {
                let name = element.attribute_name();
                let attribute = attributes
                    .iter()
                    .find(|attribute| attribute.attribute_name() == name);
                let kind = attribute.map_or("?", |attribute| attribute.attribute_type().as_str());
                format!("{name} ({kind})")
            })
    };
    let parts: Vec<_> = part(KeyType::Hash).chain(part(KeyType::Range)).collect();
    parts.join(", ")
}
