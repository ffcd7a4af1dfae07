//! The forecast of the pools: reads them as they are, and follows refill until the time in question.

mod assumptions;
mod computation;
mod tally;

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use thiserror::Error;

pub(super) use self::computation::Computation;
use self::tally::{RefillFacts, Tally, Timetable};
use super::{JobContext, RefillMode};
use crate::{
    clock::{MAX_CLOCK_SKEW, UnixSeconds},
    domain::{
        Activity, LONGEST_FORECAST, NamePrefix, PoolForecast, PoolTerms, RefillPace, Sandbox,
        Status, forecast,
    },
    store::{PoolStore, RefillItems, StoreError},
};

/// The forecast of the pools of the policy for a time.
#[derive(Clone, Debug)]
pub(crate) struct Forecast {
    /// The time of the forecast.
    pub at: UnixSeconds,
    /// When the pools were read.
    pub now: UnixSeconds,
    /// Its assumptions about all pools, as sentences.
    pub assumptions: Vec<String>,
    /// The pools, by name prefix.
    pub pools: Vec<ExpectedPool>,
}

/// The forecast of a pool, with its present state.
#[derive(Clone, Debug)]
pub(crate) struct ExpectedPool {
    /// The beginning of the names of its sandboxes.
    pub name_prefix: NamePrefix,
    /// Its available sandboxes now.
    pub available_now: u64,
    /// How many sandboxes there may be in all.
    pub max_total: Option<u32>,
    /// How long a new sandbox takes until it is available; `None` if nothing creates any.
    pub time_to_available: Option<Duration>,
    /// The forecast.
    pub forecast: PoolForecast,
    /// Its assumptions about this pool, as sentences.
    pub assumptions: Vec<String>,
}

/// The reason why there is no forecast.
#[derive(Debug, Error)]
pub(crate) enum ForecastError {
    /// The time has passed.
    #[error("the time of the forecast has passed")]
    Past,
    /// The time is more than [`LONGEST_FORECAST`] ahead.
    #[error("the time of the forecast is too far ahead")]
    TooFar,
    /// The pools could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The maximum number of pools whose creations are read at the same time.
const CONCURRENT_READS: usize = 16;
/// The statuses that are read: every one in which a sandbox counts towards `max_total`.
const COUNTED: [Status; 6] = [
    Status::Provisioning,
    Status::Available,
    Status::Allocated,
    Status::PendingDeletion,
    Status::DeletionFailed,
    Status::Quarantined,
];

impl Forecast {
    /// Reads the pools, and forecasts them. Without a pool in the policy, it makes no call to the database.
    ///
    /// # Errors
    /// [`ForecastError`].
    pub(super) async fn read(
        at: UnixSeconds,
        context: &JobContext,
        computation: &Computation,
    ) -> Result<Self, ForecastError> {
        let now = context.clock.now();
        let at = checked(at, now)?;
        let policy = context.policy.current();
        let timetable = Timetable::new(context, now);
        let mut tallies: Vec<Tally> = Vec::new();
        if !policy.pools().is_empty() {
            let store = context.store.admit_read()?;
            let pools = policy.pools();
            let reads = pools
                .iter()
                .map(|pool| refill_of(context, &store, pool, now));
            // Collected first: the compiler does not see that a stream of borrowing futures can be sent.
            let reads = stream::iter(reads.collect::<Vec<_>>());
            let refills: Vec<_> = reads.buffered(CONCURRENT_READS).try_collect().await?;
            let refills = pools.iter().zip(refills);
            tallies.extend(refills.map(|(terms, refill)| Tally::new(terms, refill, &timetable)));
            // After the creations: one whose sandbox is inserted meanwhile is then among the sandboxes, too.
            for status in COUNTED {
                let visit = |sandbox: Sandbox| {
                    if let Some(pool) = policy.pool_of(&sandbox.account.name) {
                        tallies[pool].add(&sandbox, &timetable);
                    }
                };
                store.each_in_status(status, visit).await?;
            }
        }
        let tallies: Vec<_> = tallies
            .into_iter()
            .map(|tally| tally.close(&timetable))
            .collect();
        let assumptions = assumptions::of_all(context, &tallies);
        let pace = pace(context);
        let pools = computation.run(move || expected(now, at, &tallies, pace));
        Ok(Self {
            at,
            now,
            assumptions,
            pools: pools.await,
        })
    }
}

/// Computes the forecast of each pool.
fn expected(
    now: UnixSeconds,
    at: UnixSeconds,
    tallies: &[Tally],
    pace: Option<RefillPace>,
) -> Vec<ExpectedPool> {
    let outlooks: Vec<_> = tallies.iter().map(|tally| tally.outlook.clone()).collect();
    let forecasts = forecast(now, at, &outlooks, pace);
    let pools = tallies
        .iter()
        .zip(forecasts)
        .map(|(tally, forecast)| ExpectedPool {
            name_prefix: tally.outlook.terms.name_prefix.clone(),
            available_now: tally.outlook.available,
            max_total: tally.outlook.terms.max_total,
            time_to_available: tally.creates().then_some(tally.outlook.time_to_available),
            assumptions: assumptions::of_pool(tally),
            forecast,
        });
    pools.collect()
}

/// Returns the time of a forecast, at `now` or later. A time that has passed by less than two clocks may differ is `now`.
fn checked(at: UnixSeconds, now: UnixSeconds) -> Result<UnixSeconds, ForecastError> {
    if at + MAX_CLOCK_SKEW < now {
        return Err(ForecastError::Past);
    }
    if at > now + LONGEST_FORECAST {
        return Err(ForecastError::TooFar);
    }
    Ok(at.max(now))
}

/// Returns how fast refill creates sandboxes; `None` if it does not.
fn pace(context: &JobContext) -> Option<RefillPace> {
    let refill = &context.jobs.refill;
    (refill.mode == RefillMode::On).then(|| refill.pace())
}

/// Reads the facts about refill in a pool.
async fn refill_of(
    context: &JobContext,
    store: &PoolStore,
    terms: &PoolTerms,
    now: UnixSeconds,
) -> Result<RefillFacts, StoreError> {
    let items = match &terms.create {
        Some(_) => store.refill_items(&terms.name_prefix).await?,
        None => RefillItems::default(),
    };
    let fault = items.fault();
    let RefillItems {
        state, creations, ..
    } = items;
    let measured = state
        .time_to_available()
        .map(|time| (state.times.len(), time));
    let stopped = fault.or(state.stop.map(|stop| stop.reason));
    Ok(RefillFacts {
        creations,
        measured,
        is_stopped: terms.create.is_some() && stopped.is_some(),
        creates_from: creates_from(context, terms, stopped, now),
    })
}

/// Returns when refill can create sandboxes in a pool at the earliest, or why it does not.
fn creates_from(
    context: &JobContext,
    terms: &PoolTerms,
    stopped: Option<String>,
    now: UnixSeconds,
) -> Result<UnixSeconds, String> {
    let pause = context.pauses.of(Activity::Refill);
    match (context.jobs.refill.mode, stopped, pause) {
        _ if terms.create.is_none() => {
            Err("Nothing fills this pool: the policy has no create for it.".to_owned())
        }
        (RefillMode::Off, ..) => Err("Nothing is created: REFILL_MODE is off.".to_owned()),
        (RefillMode::Plan, ..) => Err("Nothing is created: REFILL_MODE is plan.".to_owned()),
        (_, Some(reason), _) => Err(format!("Refill has stopped for this pool: {reason}")),
        (.., Some(pause)) => pause.until.ok_or_else(|| {
            let reason = pause.reason.as_str();
            format!("Refill is paused until an operator ends that: {reason}")
        }),
        (.., None) => Ok(now),
    }
}
