//! Run records: the state and the report of every run of a job.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    PoolStore, StoreError, change,
    error::is_failed_condition,
    item::{self, Item, number, string},
    lease::partition,
    transaction,
};
use crate::{
    clock::UnixSeconds,
    domain::{AuditRecord, JobName, RunId, RunRecord, RunState},
};

/// How long run records are retained.
const RUN_TTL: Duration = Duration::from_hours(30 * 24);

/// The attributes of a run record.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    id: String,
    job: JobName,
    state: RunState,
    counts: serde_json::Value,
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started_by: Option<String>,
    started_at: UnixSeconds,
    updated_at: UnixSeconds,
    finished_at: Option<UnixSeconds>,
}

impl From<&RunRecord> for Row {
    fn from(record: &RunRecord) -> Self {
        let RunRecord {
            id,
            job,
            state,
            counts,
            error,
            started_by,
            started_at,
            updated_at,
            finished_at,
        } = record.clone();
        Self {
            id,
            job,
            state,
            counts,
            error,
            started_by,
            started_at,
            updated_at,
            finished_at,
        }
    }
}

impl From<Row> for RunRecord {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            job: row.job,
            state: row.state,
            counts: row.counts,
            error: row.error,
            started_by: row.started_by,
            started_at: row.started_at,
            updated_at: row.updated_at,
            finished_at: row.finished_at,
        }
    }
}

/// Returns the item of a run record.
fn run_item(id: &RunId, record: &RunRecord) -> Result<Item, serde_dynamo::Error> {
    let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(Row::from(record))?;
    item.extend(run_key(id));
    item.insert("ttl".to_owned(), number((record.started_at + RUN_TTL).0));
    Ok(item)
}

fn run_key(id: &RunId) -> Item {
    item::key(partition(id.job()), &format!("RUN#{id}"))
}

impl PoolStore {
    /// Writes the record of a run. The record of a finished run is not overwritten.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_run(&self, id: &RunId, record: &RunRecord) -> Result<(), StoreError> {
        const OPERATION: &str = "PutItem";
        let item =
            run_item(id, record).map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        let answer = self
            .put_companion_item(item)
            .condition_expression("attribute_not_exists(PK) OR #state = :running")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":running", string("running"))
            .send()
            .await;
        match answer {
            Err(error) if !is_failed_condition(&error) => {
                Err(StoreError::from_sdk(OPERATION, error))
            }
            _ => Ok(()),
        }
    }

    /// Writes the record of a run that starts, together with the audit records of its start: neither exists without the
    /// other.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_audited_run(
        &self,
        id: &RunId,
        record: &RunRecord,
        start: &AuditRecord,
    ) -> Result<(), StoreError> {
        let item = run_item(id, record)
            .map_err(|fault| StoreError::unexpected(transaction::OPERATION, fault))?;
        let put = change::put(&self.table.companion, item)
            .map_err(|fault| StoreError::unexpected(transaction::OPERATION, fault))?;
        let mut actions = self.audit_actions(start)?;
        actions.push(put);
        // Without conditions, a transaction is never refused.
        self.transact(actions).await.map(drop)
    }

    /// Records that a run was abandoned by its broker, if its record still says that it is in progress.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_abandoned(&self, id: &RunId, now: UnixSeconds) -> Result<(), StoreError> {
        let Some(record) = self.run(id).await? else {
            return Ok(());
        };
        let ended = RunRecord {
            state: RunState::Interrupted,
            error: Some("its broker crashed or lost the database".to_owned()),
            updated_at: now,
            finished_at: Some(now),
            ..record
        };
        self.put_run(id, &ended).await
    }

    /// Reads the record of a run.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn run(&self, id: &RunId) -> Result<Option<RunRecord>, StoreError> {
        let item = self.get_item(&self.table.companion, run_key(id)).await?;
        Ok(item.and_then(read_run))
    }

    /// Reads the last `limit` runs of a job, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recent_runs(
        &self,
        job: JobName,
        limit: i32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let reads = self.reads.for_operators();
        let _permit = reads.page_permit().await;
        let answer = self
            .client
            .query()
            .table_name(&self.table.companion)
            .key_condition_expression("PK = :job AND begins_with(SK, :run)")
            .expression_attribute_values(":job", string(partition(job)))
            .expression_attribute_values(":run", string("RUN#"))
            .scan_index_forward(false)
            .limit(limit)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("Query", error))?;
        Ok(answer
            .items
            .unwrap_or_default()
            .into_iter()
            .filter_map(read_run)
            .collect())
    }
}

fn read_run(item: Item) -> Option<RunRecord> {
    match serde_dynamo::aws_sdk_dynamodb_1::from_item::<Row>(item) {
        Ok(row) => Some(row.into()),
        Err(fault) => {
            tracing::warn!(%fault, "unreadable run record skipped");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::corrupted;

    fn record() -> RunRecord {
        RunRecord {
            id: "sync-01774000000-1f0c7a52".into(),
            job: JobName::Sync,
            state: RunState::Running,
            counts: serde_json::json!({ "status": "running", "synced": 3 }),
            error: Some("reason".into()),
            started_by: Some("anna".into()),
            started_at: UnixSeconds(1),
            updated_at: UnixSeconds(2),
            finished_at: Some(UnixSeconds(3)),
        }
    }

    fn item(record: &RunRecord) -> Item {
        serde_dynamo::aws_sdk_dynamodb_1::to_item(Row::from(record)).unwrap()
    }

    proptest! {
        #[test]
        fn any_run_record_reads_back(counts in proptest::collection::hash_map("[a-z_]{1,12}", any::<u32>(), 0..8), error in proptest::option::of(".{0,99}")) {
            let record = RunRecord { counts: serde_json::json!(counts), error, ..record() };
            prop_assert_eq!(read_run(item(&record)), Some(record));
        }

        #[test]
        fn any_item_is_a_run_record_or_is_skipped(item in corrupted(item(&record()))) {
            read_run(item);
        }
    }
}
