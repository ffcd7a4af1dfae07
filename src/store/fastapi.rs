//! The way back to the FastAPI service: conversion of the items that it cannot read.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;

use super::{Change, PoolStore, StoreError};
use crate::{
    clock::Clock,
    domain::{AuditAction, AuditRecord, AuditTarget, Author, Sandbox, Status, Transition},
};

/// The name of the command, as the author of the audit records.
const COMMAND: &str = "table to-fastapi";
/// Brokers count the pool at least this often.
const COUNT_INTERVAL: Duration = Duration::from_mins(1);

/// The result of `table to-fastapi`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Conversion {
    /// The number of quarantined sandboxes that are `deletion_failed` now.
    pub converted: usize,
    /// The number of sandboxes in `provisioning` that are `stale` now.
    pub made_stale: usize,
    /// The number of sandboxes in one of the two statuses that another process changed meanwhile.
    pub skipped: usize,
    /// The number of items that are no valid sandboxes. They are left as they are.
    pub unreadable: usize,
    /// Whether a broker has counted the pool within the last minutes, and so may still be running.
    pub brokers_seen: bool,
}

impl PoolStore {
    /// Converts every quarantined sandbox to `deletion_failed`, a status that the FastAPI service knows, and in which
    /// none of its jobs changes a sandbox or makes it available. The reason becomes the error of the deletion. A sandbox in
    /// `provisioning` becomes `stale`: the next sync of that service makes it available, as it does any new account.
    ///
    /// # Errors
    /// [`StoreError`]. Converted sandboxes remain converted, and another run continues.
    pub async fn convert_for_fastapi(&self, clock: &dyn Clock) -> Result<Conversion, StoreError> {
        let now = clock.now();
        let mut conversion = Conversion {
            brokers_seen: !self.samples(COUNT_INTERVAL, now).await?.is_empty(),
            ..Conversion::default()
        };
        let mut changes = Vec::new();
        let mut pages = self.sandbox_pages();
        while let Some(page) = pages.next().await {
            let page = page?;
            conversion.unreadable += page.unreadable.len();
            let unknown = page.sandboxes.into_iter();
            let unknown = unknown
                .filter(|one| matches!(one.status, Status::Quarantined | Status::Provisioning));
            changes.extend(unknown.map(|sandbox| Change::ConvertForFastapi {
                record: Box::new(record(&sandbox, clock.now_ms())),
                sandbox: Box::new(sandbox),
            }));
        }
        // The duration is that of new sandboxes, of which there are none here.
        let converted = self.apply(None, &changes, 0, now).await?;
        for (change, is_converted) in changes.iter().zip(converted) {
            let count = match change {
                _ if !is_converted => &mut conversion.skipped,
                Change::ConvertForFastapi { sandbox, .. }
                    if sandbox.status == Status::Provisioning =>
                {
                    &mut conversion.made_stale
                }
                _ => &mut conversion.converted,
            };
            *count += 1;
        }
        Ok(conversion)
    }
}

/// Returns the record of the conversion of a sandbox.
fn record(sandbox: &Sandbox, at_ms: i64) -> AuditRecord {
    let author = Author {
        name: COMMAND.into(),
        role: None,
        request_id: format!("to-fastapi-{at_ms}"),
        address: None,
    };
    let target = AuditTarget::Sandbox(sandbox.id().clone());
    let converted = if sandbox.status == Status::Provisioning {
        Status::Stale
    } else {
        Transition::ConvertForFastapi.to()
    };
    AuditRecord {
        before: Some(json!({ "status": sandbox.status })),
        after: Some(json!({ "status": converted })),
        ..AuditRecord::done(at_ms, author, AuditAction::ConvertForFastapi, target)
    }
}
