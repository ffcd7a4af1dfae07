//! The outcomes of NIOSXaaS cleanups of the last 30 days.

use futures_util::TryStreamExt;

use super::JobContext;
use crate::{
    csp::niosxaas::NiosxaasClient,
    domain::{NiosxaasRecord, NiosxaasVerdict, Sandbox, Status},
    store::StoreError,
};

/// The number of records in a report.
const RECENT: usize = 200;

/// The number of accounts by outcome, and the latest records.
#[derive(Clone, Debug, Default)]
pub struct NiosxaasReport {
    /// Whether services are deleted before their account.
    pub is_enabled: bool,
    /// Whether services are found, but not deleted (shadow mode).
    pub is_shadow: bool,
    /// Accounts whose services were deleted.
    pub cleaned: usize,
    /// Accounts whose services were skipped.
    pub skipped: usize,
    /// Accounts whose services could not be deleted.
    pub failed: usize,
    /// Sandboxes in `pending_deletion` whose services are still to be deleted.
    pub pending: usize,
    /// The latest records, newest first.
    pub records: Vec<NiosxaasRecord>,
}

impl NiosxaasReport {
    /// Reads the records of the whole pool's table.
    pub(super) async fn read(context: &JobContext) -> Result<Self, StoreError> {
        let store = context.store.admit_read()?;
        let pending = store.in_status(Status::PendingDeletion).await?;
        let client = context.niosxaas.as_ref();
        let is_enabled = client.is_some();
        let mut report = Self {
            is_enabled,
            is_shadow: client.is_some_and(NiosxaasClient::is_shadow),
            pending: pending
                .sandboxes
                .iter()
                .filter(|sandbox| is_enabled && is_pending(sandbox))
                .count(),
            ..Self::default()
        };
        let mut pages = store.niosxaas_pages();
        while let Some(page) = pages.try_next().await? {
            report.add(page);
        }
        Ok(report)
    }

    fn add(&mut self, page: Vec<NiosxaasRecord>) {
        for record in page {
            match record.outcome {
                NiosxaasVerdict::Cleaned => self.cleaned += 1,
                NiosxaasVerdict::Skipped => self.skipped += 1,
                NiosxaasVerdict::Failed => self.failed += 1,
            }
            self.records.push(record);
        }
        self.records
            .sort_by_key(|record| std::cmp::Reverse(record.at));
        self.records.truncate(RECENT);
    }
}

fn is_pending(sandbox: &Sandbox) -> bool {
    let maintenance = &sandbox.maintenance;
    maintenance.niosxaas_cleaned_at.is_none()
        && maintenance.niosxaas_cleanup_skipped.is_none()
        && maintenance.niosxaas_cleanup_failed_reason.is_none()
}
