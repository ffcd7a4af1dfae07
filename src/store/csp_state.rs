//! The state of CSP and `NIOSXaaS`: one item of the companion table for all processes.

use serde::{Deserialize, Serialize};

use super::{
    PoolStore, StoreError,
    error::is_failed_condition,
    item::{self, Item, integer, number},
};
use crate::{
    clock::UnixSeconds,
    domain::{BreakerState, CspState, ServiceState},
};

/// A state with the version of its item; 0 if there is no item, or none with a usable version.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VersionedCspState {
    /// Incremented by each write.
    pub version: i64,
    /// The state.
    pub state: CspState,
}

/// The largest version that can be incremented.
const LAST_VERSION: i64 = i64::MAX - 1;

/// The attributes of the item.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    version: i64,
    csp: Service,
    niosxaas: Service,
    pace: f64,
}

/// The state of one service within the item.
#[derive(Debug, Serialize, Deserialize)]
struct Service {
    failures: u32,
    open_until: Option<UnixSeconds>,
    openings: u64,
    rejected_since: Option<UnixSeconds>,
}

impl From<ServiceState> for Service {
    fn from(state: ServiceState) -> Self {
        let BreakerState {
            failures,
            open_until,
            openings,
        } = state.breaker;
        Self {
            failures,
            open_until,
            openings,
            rejected_since: state.rejected_since,
        }
    }
}

impl From<Service> for ServiceState {
    fn from(service: Service) -> Self {
        Self {
            breaker: BreakerState {
                failures: service.failures,
                open_until: service.open_until,
                openings: service.openings,
            },
            rejected_since: service.rejected_since,
        }
    }
}

fn key() -> Item {
    item::key("CSP".to_owned(), "STATE")
}

impl PoolStore {
    /// Reads the state of CSP. An item that cannot be read counts as the initial state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn csp_state(&self) -> Result<VersionedCspState, StoreError> {
        let item = self.get_item(&self.table.companion, key()).await?;
        Ok(item.map(read).unwrap_or_default())
    }

    /// Writes the state of CSP, unless the item has another usable version than `version`. Returns whether it was
    /// written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_csp_state(&self, state: CspState, version: i64) -> Result<bool, StoreError> {
        const OPERATION: &str = "PutItem";
        let row = Row {
            version: version + 1,
            csp: state.csp.into(),
            niosxaas: state.niosxaas.into(),
            pace: state.pace,
        };
        let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(row)
            .map_err(|fault| StoreError::unexpected(OPERATION, fault))?;
        item.extend(key());
        let _slot = self.slot().await;
        let answer = self
            .put_companion_item(item)
            // The second part also holds without an item.
            .condition_expression("version = :version OR NOT (version BETWEEN :zero AND :last)")
            .expression_attribute_values(":version", number(version))
            .expression_attribute_values(":zero", number(0))
            .expression_attribute_values(":last", number(LAST_VERSION))
            .send()
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(error) if is_failed_condition(&error) => Ok(false),
            Err(error) => Err(StoreError::from_sdk(OPERATION, error)),
        }
    }
}

fn read(item: Item) -> VersionedCspState {
    let version = integer(Some(&item), "version")
        .filter(|version| (0..=LAST_VERSION).contains(version))
        .unwrap_or(0);
    match serde_dynamo::aws_sdk_dynamodb_1::from_item::<Row>(item) {
        Ok(row) => VersionedCspState {
            version,
            state: CspState {
                csp: row.csp.into(),
                niosxaas: row.niosxaas.into(),
                pace: row.pace.clamp(0.0, 1.0),
            },
        },
        Err(fault) => {
            tracing::warn!(%fault, "state of CSP unreadable");
            VersionedCspState {
                version,
                state: CspState::default(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::corrupted;

    fn item() -> Item {
        let service = ServiceState {
            breaker: BreakerState {
                failures: 5,
                open_until: Some(UnixSeconds(1_795_000_060)),
                openings: 2,
            },
            rejected_since: Some(UnixSeconds(1_795_000_000)),
        };
        let row = Row {
            version: 3,
            csp: service.into(),
            niosxaas: service.into(),
            pace: 0.25,
        };
        serde_dynamo::aws_sdk_dynamodb_1::to_item(row).unwrap()
    }

    proptest! {
        #[test]
        fn any_item_is_a_state_or_the_initial_one(item in corrupted(item())) {
            let read = read(item);
            prop_assert!((0.0..=1.0).contains(&read.state.pace));
        }
    }
}
