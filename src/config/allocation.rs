//! The settings of allocation: lease terms, and limits under contention.

use std::time::Duration;

use super::reader::Reader;
use crate::{
    backoff::BackoffConfig,
    broker::AllocationConfig,
    domain::{FASTAPI_LAB_DURATION_HOURS, LeaseTerms},
};

pub(super) fn read_terms(reader: &mut Reader<'_>) -> LeaseTerms {
    const LAB_DURATION: &str = "LAB_DURATION_HOURS";
    let lab_duration_hours = reader.number(LAB_DURATION, 4, 1..=720);
    let is_set = reader.raw(LAB_DURATION).is_some();
    LeaseTerms {
        lab_duration_hours,
        inherited_hours: if is_set {
            lab_duration_hours
        } else {
            FASTAPI_LAB_DURATION_HOURS
        },
        grace: reader.duration("GRACE_PERIOD_MINUTES", 30, 0..=10_080, Duration::from_mins),
    }
}

pub(super) fn read_allocation(reader: &mut Reader<'_>) -> AllocationConfig {
    let mut backoff = BackoffConfig {
        base: reader.duration("BACKOFF_BASE_MS", 25, 1..=10_000, Duration::from_millis),
        max: reader.duration("BACKOFF_MAX_MS", 1_000, 1..=60_000, Duration::from_millis),
    };
    if backoff.base > backoff.max {
        // Taken by the FastAPI service, in which the maximum bounded every pause as well.
        reader.warn("BACKOFF_BASE_MS is more than BACKOFF_MAX_MS, which bounds every pause");
        backoff.base = backoff.max;
    }
    AllocationConfig {
        timeout: reader.duration(
            "ALLOCATE_TIMEOUT_MS",
            10_000,
            100..=25_000,
            Duration::from_millis,
        ),
        index_capacity: reader.number("CANDIDATE_INDEX_CAPACITY", 10_000, 100..=1_000_000),
        backoff,
    }
}
