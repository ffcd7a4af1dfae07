//! Samples of the pool over time, for the dashboard: one item for each [`SAMPLE_SPAN`].
//!
//! All processes write to the same item. The counts are those of the last writer; allocations and releases are added
//! up. They are approximate: a crashed broker loses those of up to a minute, a crashed run of auto-expire its own, and
//! a write whose answer was lost may count twice.

use std::time::Duration;

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use serde::Deserialize;

use super::{
    PoolStore, StoreError,
    item::{self, Item, number, string},
    scan::ITEMS_PER_PAGE,
};
use crate::{
    clock::{MAX_CLOCK_SKEW, UnixSeconds},
    domain::{Flow, PoolCounts, SAMPLE_RETENTION, SAMPLE_SPAN, Sample},
};

const PARTITION: &str = "SAMPLES";

/// The attributes of a sample.
#[derive(Debug, Deserialize)]
struct Row {
    sampled_at: UnixSeconds,
    /// Absent until a broker has counted the pool in the period.
    #[serde(flatten)]
    counts: Option<Counts>,
    allocations: u64,
    releases: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Counts {
    /// Absent in a sample of a broker without the status.
    #[serde(default)]
    provisioning: u64,
    available: u64,
    allocated: u64,
    pending_deletion: u64,
    stale: u64,
    deletion_failed: u64,
    /// Absent in a sample of a broker without the status.
    #[serde(default)]
    quarantined: u64,
}

impl From<Counts> for PoolCounts {
    fn from(counts: Counts) -> Self {
        let Counts {
            provisioning,
            available,
            allocated,
            pending_deletion,
            stale,
            deletion_failed,
            quarantined,
        } = counts;
        Self {
            provisioning,
            available,
            allocated,
            pending_deletion,
            stale,
            deletion_failed,
            quarantined,
        }
    }
}

fn sort(at: UnixSeconds) -> String {
    format!("SAMPLE#{:011}", at.0)
}

fn start_of_span(at: UnixSeconds) -> UnixSeconds {
    let span = i64::try_from(SAMPLE_SPAN.as_secs()).unwrap_or(i64::MAX);
    UnixSeconds(at.0.div_euclid(span) * span)
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl PoolStore {
    /// Adds the current counts, and the allocations and releases of this broker since its last call.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_sample(
        &self,
        counts: PoolCounts,
        flow: Flow,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let update = self
            .sample_update(flow, now)
            .update_expression(
                "SET sampled_at = :at, #provisioning = :provisioning, available = :available, allocated = :allocated, \
                 pending_deletion = :pending_deletion, stale = :stale, deletion_failed = :deletion_failed, \
                 quarantined = :quarantined, #ttl = :ttl ADD allocations :allocations, releases :releases",
            )
            // A reserved word of DynamoDB.
            .expression_attribute_names("#provisioning", "provisioning")
            .expression_attribute_values(":provisioning", number(count(counts.provisioning)))
            .expression_attribute_values(":available", number(count(counts.available)))
            .expression_attribute_values(":allocated", number(count(counts.allocated)))
            .expression_attribute_values(":pending_deletion", number(count(counts.pending_deletion)))
            .expression_attribute_values(":stale", number(count(counts.stale)))
            .expression_attribute_values(":deletion_failed", number(count(counts.deletion_failed)))
            .expression_attribute_values(":quarantined", number(count(counts.quarantined)));
        match self.update_item(update).await {
            Ok(_) => Ok(()),
            Err(error) => Err(StoreError::from_sdk("UpdateItem", error)),
        }
    }

    /// Adds allocations and releases to the sample of `now`, for a process that does not count the pool.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_flow(&self, flow: Flow, now: UnixSeconds) -> Result<(), StoreError> {
        let update = self.sample_update(flow, now).update_expression(
            "SET sampled_at = :at, #ttl = :ttl ADD allocations :allocations, releases :releases",
        );
        match self.update_item(update).await {
            Ok(_) => Ok(()),
            Err(error) => Err(StoreError::from_sdk("UpdateItem", error)),
        }
    }

    /// Starts an update of the sample of `now`, with the values that every update of it sets or adds.
    fn sample_update(&self, flow: Flow, now: UnixSeconds) -> UpdateItemFluentBuilder {
        let at = start_of_span(now);
        self.client
            .update_item()
            .table_name(&self.table.companion)
            .set_key(Some(item::key(PARTITION.to_owned(), &sort(at))))
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":at", number(at.0))
            .expression_attribute_values(":ttl", number((at + SAMPLE_RETENTION).0))
            .expression_attribute_values(":allocations", number(count(flow.allocations)))
            .expression_attribute_values(":releases", number(count(flow.releases)))
    }

    /// Reads the samples of the last `span` before `now`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn samples(
        &self,
        span: Duration,
        now: UnixSeconds,
    ) -> Result<Vec<Sample>, StoreError> {
        // The query leaves out older samples, which TTL may remove days late, and later ones, which a broker wrote
        // whose clock was ahead.
        let query = self
            .client
            .query()
            .table_name(&self.table.companion)
            .key_condition_expression("PK = :samples AND SK BETWEEN :first AND :last")
            .expression_attribute_values(":samples", string(PARTITION))
            .expression_attribute_values(":first", string(sort(start_of_span(now - span))))
            .expression_attribute_values(":last", string(sort(now + MAX_CLOCK_SKEW)))
            .limit(self.reads.page_of(ITEMS_PER_PAGE));
        let mut samples: Vec<Sample> = Vec::new();
        for row in self.for_operators().collect(query, read_row).await? {
            let before = samples.last().map(|sample| sample.counts);
            samples.extend(sample(&row, before));
        }
        Ok(samples)
    }
}

/// Returns the sample in a row, with the counts `before` it until the pool is counted in its period. `None` without any
/// counts.
fn sample(row: &Row, before: Option<PoolCounts>) -> Option<Sample> {
    Some(Sample {
        at: row.sampled_at,
        counts: row.counts.map(PoolCounts::from).or(before)?,
        flow: Flow {
            allocations: row.allocations,
            releases: row.releases,
        },
    })
}

fn read_row(item: Item) -> Option<Row> {
    match serde_dynamo::aws_sdk_dynamodb_1::from_item::<Row>(item) {
        Ok(row) => Some(row),
        Err(fault) => {
            tracing::warn!(%fault, "unreadable sample skipped");
            None
        }
    }
}
