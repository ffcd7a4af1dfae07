//! The pools of the policy: their states, gauges and log events.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use prometheus::IntGaugeVec;
use tokio::time::Instant;

use crate::{
    clock::UnixSeconds,
    domain::{
        Activity, NamePrefix, Policy, PoolCounts, PoolFacts, PoolState, PoolStatus, PoolSupply,
        PoolTarget, PoolTerms, RefillProgress, Refusal,
    },
    jobs::{JobContext, RefillMode},
    store::StoreError,
    telemetry::metrics::{Metrics, gauge},
};

const HOUR: Duration = Duration::from_hours(1);
/// The maximum number of pools whose creations are read at the same time.
const CONCURRENT_READS: usize = 16;

fn measured(progress: Option<&RefillProgress>) -> Option<Duration> {
    progress?.time_to_available
}

/// The pools of the last count, from which the next one follows.
#[derive(Debug, Default)]
pub(super) struct PoolHistory(BTreeMap<NamePrefix, LastCount>);

/// The part of a pool's last count that the next one needs.
#[derive(Clone, Copy, Debug)]
struct LastCount {
    state: PoolState,
    /// Since when more has been missing than one run of refill begins.
    waiting_since: Option<Instant>,
}

impl PoolHistory {
    /// Returns the status of every pool of the policy. `counts` are in the order of its pools. Without pools, and for
    /// those whose sandboxes nothing creates, it makes no call to the database.
    pub(super) async fn statuses(
        &self,
        context: &JobContext,
        policy: &Policy,
        counts: &[PoolCounts],
        now: UnixSeconds,
    ) -> Result<Vec<PoolStatus>, StoreError> {
        let (config, pools) = (&context.jobs, policy.pools());
        let assumed = config.check.provision_timeout;
        let (pace, is_on) = (config.refill.pace(), config.refill.mode == RefillMode::On);
        let reads = pools.iter().map(|pool| {
            let is_filled = is_on && pool.create.is_some();
            refill_progress(context, is_filled.then_some(&pool.name_prefix))
        });
        // Collected first: the compiler does not see that a stream of borrowing futures can be sent.
        let reads = stream::iter(reads.collect::<Vec<_>>());
        let progress: Vec<_> = reads.buffered(CONCURRENT_READS).try_collect().await?;
        let facts = pools.iter().zip(counts).zip(&progress);
        let supplies: Vec<_> = facts
            .map(|((terms, counts), progress)| PoolSupply {
                terms,
                available: counts.available,
                time_to_available: measured(progress.as_ref()).unwrap_or(assumed),
            })
            .collect();
        let is_paused = context.pauses.of(Activity::Refill).is_some();
        let targets = PoolTarget::at(now, &supplies, is_on.then_some(pace));
        let facts = pools.iter().zip(targets).zip(counts).zip(progress);
        let status = |(((terms, target), counts), refill): (((&PoolTerms, _), &PoolCounts), _)| {
            let facts = PoolFacts {
                terms,
                target,
                counts: *counts,
                refill,
                waited: self.waited(&terms.name_prefix),
                is_paused,
            };
            PoolStatus::at(now, facts, pace, assumed)
        };
        Ok(facts.map(status).collect())
    }

    fn waited(&self, pool: &NamePrefix) -> Duration {
        let since = self.0.get(pool).and_then(|last| last.waiting_since);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Sets the gauges, and logs the pools that need attention now, and those that no longer do. A pool that has left the
    /// policy has no series.
    pub(super) fn report(&mut self, metrics: &Metrics, pools: &[PoolStatus]) {
        let mut before = std::mem::take(&mut self.0);
        for pool in pools {
            set_gauges(metrics, pool);
            let last = before.remove(&pool.name_prefix);
            log_change(last.map(|last| last.state), pool);
            let waiting_since = last.and_then(|last| last.waiting_since);
            let count = LastCount {
                state: pool.state,
                waiting_since: pool
                    .is_waiting
                    .then(|| waiting_since.unwrap_or_else(Instant::now)),
            };
            self.0.insert(pool.name_prefix.clone(), count);
        }
        for gone in before.into_keys() {
            for gauges in gauges_of(metrics) {
                // It fails if there is no series.
                drop(gauges.remove_label_values(&[gone.as_str()]));
            }
        }
    }
}

fn gauges_of(metrics: &Metrics) -> [&IntGaugeVec; 7] {
    [
        &metrics.pool_target,
        &metrics.pool_ready,
        &metrics.pool_warming,
        &metrics.pool_creations_under_way,
        &metrics.pool_late,
        &metrics.pool_refill_stopped,
        &metrics.pool_time_to_available,
    ]
}

fn set_gauges(metrics: &Metrics, pool: &PoolStatus) {
    let time_to_available = measured(pool.refill.as_ref());
    let values = [
        Some(gauge(pool.target.goal)),
        Some(gauge(pool.counts.available)),
        Some(gauge(pool.counts.provisioning)),
        Some(gauge(pool.under_way())),
        Some(i64::from(pool.late_since.is_some())),
        Some(i64::from(pool.is_stopped())),
        time_to_available.map(|time| gauge(time.as_secs())),
    ];
    let label = [pool.name_prefix.as_str()];
    for (gauges, value) in gauges_of(metrics).into_iter().zip(values) {
        match value {
            Some(value) => gauges.with_label_values(&label).set(value),
            // It fails if there is no series.
            None => drop(gauges.remove_label_values(&label)),
        }
    }
}

/// Logs that a pool needs attention, or no longer does, once for each change.
fn log_change(before: Option<PoolState>, pool: &PoolStatus) {
    let needs_attention = |state| matches!(state, PoolState::Late | PoolState::Stopped);
    if before == Some(pool.state) {
        return;
    }
    if needs_attention(pool.state) {
        tracing::warn!(
            pool = pool.name_prefix.as_str(),
            state = pool.state.as_str(),
            reason = pool.reason,
            target_available = pool.target.target,
            available = pool.counts.available,
            provisioning = pool.counts.provisioning,
            under_way = pool.under_way(),
            "pool needs attention"
        );
    } else if before.is_some_and(needs_attention) {
        tracing::info!(
            pool = pool.name_prefix.as_str(),
            state = pool.state.as_str(),
            "pool recovered"
        );
    }
}

/// The growth of a total over the last hour, as far as this process has seen it.
#[derive(Debug, Default)]
pub(super) struct HourlyGrowth(VecDeque<(Instant, u64)>);

impl HourlyGrowth {
    /// Records the total at `now`, and returns its growth. A lower total, as after a restore of the companion table,
    /// begins anew.
    pub(super) fn record(&mut self, total: u64, now: Instant) -> u64 {
        let totals = &mut self.0;
        if totals.back().is_some_and(|(_, last)| *last > total) {
            totals.clear();
        }
        totals.push_back((now, total));
        while totals.get(1).is_some_and(|(at, _)| *at + HOUR <= now) {
            totals.pop_front();
        }
        totals.front().map_or(0, |(_, first)| total - first)
    }
}

/// Reads the progress of refill in a pool, as its runs have recorded it; `None` without a pool.
async fn refill_progress(
    context: &JobContext,
    pool: Option<&NamePrefix>,
) -> Result<Option<RefillProgress>, StoreError> {
    let Some(pool) = pool else { return Ok(None) };
    let items = context.store.refill_items(pool).await?;
    let under_way = items.creations.iter().filter(|it| it.is_under_way());
    // An account that CSP refused for hours and has created now is no older than that.
    let begun = items.creations.iter();
    let begun = begun.map(|creation| creation.created_at.unwrap_or(creation.intended_at));
    let stop = items.state.stop.as_ref().map(|stop| Refusal {
        reason: stop.reason.clone(),
        since: Some(stop.since),
    });
    let unreadable = items.fault().map(|reason| Refusal {
        reason,
        since: None,
    });
    Ok(Some(RefillProgress {
        under_way: under_way.count() as u64,
        oldest: begun.min(),
        below_since: items.state.below_since,
        refusal: stop.or(unreadable),
        time_to_available: items.state.time_to_available(),
    }))
}

#[cfg(test)]
mod tests;
