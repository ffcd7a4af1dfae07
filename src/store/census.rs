//! Counts of the sandboxes, from an index that is eventually consistent.

use aws_sdk_dynamodb::types::Select;
use futures_util::{TryStreamExt, future::try_join_all};

use super::{PoolStore, StoreError, item::Item};
use crate::domain::{LabsHeld, Policy, PoolCounts, Status};

/// The counts of all sandboxes, and of parts of them.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// All sandboxes, by status.
    pub counts: PoolCounts,
    /// Those of each pool of the policy, in its order, by status.
    pub pools: Vec<PoolCounts>,
    /// Those that are allocated, by lab.
    pub held: LabsHeld,
}

impl Census {
    /// Adds the sandboxes of one status.
    fn add(&mut self, status: Status, part: StatusCensus) {
        self.counts.set(status, part.total);
        for (pool, count) in self.pools.iter_mut().zip(part.by_pool) {
            pool.set(status, count);
        }
        if status == Status::Allocated {
            self.held = part.held;
        }
    }
}

/// The sandboxes of one status.
#[derive(Debug)]
struct StatusCensus {
    total: u64,
    /// Those of each pool of the policy, in its order.
    by_pool: Vec<u64>,
    /// Empty unless they are allocated.
    held: LabsHeld,
}

impl PoolStore {
    /// Counts the sandboxes in each status.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn counts(&self) -> Result<PoolCounts, StoreError> {
        let mut counts = PoolCounts::default();
        let by_status = Status::ALL.map(|status| self.count(status));
        for (status, count) in Status::ALL.into_iter().zip(try_join_all(by_status).await?) {
            counts.set(status, count);
        }
        Ok(counts)
    }

    /// Counts the sandboxes in each status as [`counts`](Self::counts) does, also those of each pool of the policy and
    /// those that each lab holds. It takes the read units of a count without pools and labs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn census(&self, policy: &Policy) -> Result<Census, StoreError> {
        let by_status = Status::ALL.map(|status| self.status_census(status, policy));
        let mut census = Census {
            pools: vec![PoolCounts::default(); policy.pools().len()],
            ..Census::default()
        };
        for (status, part) in Status::ALL.into_iter().zip(try_join_all(by_status).await?) {
            census.add(status, part);
        }
        Ok(census)
    }

    /// Counts the sandboxes in a status.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count(&self, status: Status) -> Result<u64, StoreError> {
        let query = self.by_status(status).select(Select::Count);
        let mut pages = self.reads.pages("Query", query.into_paginator().send());
        let mut count = 0;
        while let Some(page) = pages.try_next().await? {
            count += u64::try_from(page.count).unwrap_or(0);
        }
        Ok(count)
    }

    /// Counts the allocated sandboxes by lab. It takes the read units of a count without labs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn labs_held(&self) -> Result<LabsHeld, StoreError> {
        let mut held = LabsHeld::default();
        let query = self
            .by_status(Status::Allocated)
            .projection_expression(LAB_ATTRIBUTES);
        self.for_each(query, |item| add_held(&mut held, &item))
            .await?;
        Ok(held)
    }

    /// Counts the sandboxes in a status as a whole and in parts. Items are only counted, unless their parts depend on
    /// their attributes.
    async fn status_census(
        &self,
        status: Status,
        policy: &Policy,
    ) -> Result<StatusCensus, StoreError> {
        let has_pools = !policy.pools().is_empty();
        let mut part = StatusCensus {
            total: 0,
            by_pool: vec![0; policy.pools().len()],
            held: LabsHeld::default(),
        };
        let query = self.by_status(status);
        let query = match (status, has_pools) {
            (Status::Allocated, false) => query.projection_expression(LAB_ATTRIBUTES),
            (Status::Allocated, true) => query
                .projection_expression(format!("{LAB_ATTRIBUTES}, #name"))
                .expression_attribute_names("#name", "name"),
            (_, false) => {
                part.total = self.count(status).await?;
                return Ok(part);
            }
            (_, true) => query
                .projection_expression("#name")
                .expression_attribute_names("#name", "name"),
        };
        self.for_each(query, |item| {
            part.total += 1;
            if status == Status::Allocated {
                add_held(&mut part.held, &item);
            }
            let name = item.get("name").and_then(|name| name.as_s().ok());
            let pool = name.and_then(|name| policy.pool_of(name));
            if let Some(count) = pool.and_then(|pool| part.by_pool.get_mut(pool)) {
                *count += 1;
            }
        })
        .await?;
        Ok(part)
    }
}

/// The attributes of an allocation by which labs are counted.
const LAB_ATTRIBUTES: &str = "track_name, quota_slot";

fn add_held(held: &mut LabsHeld, item: &Item) {
    let lab = item.get("track_name").and_then(|lab| lab.as_s().ok());
    held.add(lab.map(String::as_str), item.contains_key("quota_slot"));
}
