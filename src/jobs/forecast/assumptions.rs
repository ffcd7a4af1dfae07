//! The assumptions of a forecast, as sentences for operators.

use std::fmt;

use jiff::Timestamp;

use super::tally::Tally;
use crate::{
    clock::UnixSeconds,
    domain::Activity,
    jobs::{CheckMode, JobContext, RefillMode},
};

/// Returns the assumptions about all pools.
pub(super) fn of_all(context: &JobContext, pools: &[Tally]) -> Vec<String> {
    let sentences = [
        "Until then, nobody allocates or releases a sandbox, and operators change neither sandboxes nor the policy."
            .to_owned(),
        of_refill(context, pools),
        of_checks(context),
        of_deletions(context),
    ];
    let activities = [
        Activity::Refill,
        Activity::Sync,
        Activity::Expiry,
        Activity::Deletions,
    ];
    let pauses = activities
        .into_iter()
        .filter_map(|activity| of_pause(context, activity));
    sentences.into_iter().chain(pauses).collect()
}

/// Returns the assumptions about one pool.
pub(super) fn of_pool(tally: &Tally) -> Vec<String> {
    let mut sentences = Vec::new();
    let seconds = tally.outlook.time_to_available.as_secs();
    match (tally.creates(), tally.measured) {
        (false, _) => {}
        (true, Some(measured)) => sentences.push(format!(
            "A new sandbox is available after {seconds} s: the 95th percentile of the last {measured}."
        )),
        (true, None) => sentences.push(format!(
            "A new sandbox is available after {seconds} s, PROVISION_TIMEOUT_MINUTES: fewer than 5 have been measured."
        )),
    }
    if let Err(reason) = &tally.outlook.creates_from {
        sentences.push(reason.clone());
    }
    if tally.overdue > 0 {
        let overdue = tally.overdue;
        sentences.push(format!(
            "{overdue} sandboxes have taken longer than that, and do not become available."
        ));
    }
    sentences
}

fn of_refill(context: &JobContext, pools: &[Tally]) -> String {
    let refill = &context.jobs.refill;
    let (batch, interval) = (refill.pace.batch, refill.interval.as_secs());
    let pace = || {
        format!(
            "REFILL_MODE is on: refill creates at most {batch} sandboxes every {interval} s, for all pools together"
        )
    };
    let stopped = pools.iter().any(|pool| pool.is_stopped);
    let others = pools.iter().any(|pool| pool.creates() && !pool.is_stopped);
    match (refill.mode, stopped, others) {
        (RefillMode::Off, ..) => "REFILL_MODE is off: no sandbox is created.".to_owned(),
        (RefillMode::Plan, ..) => "REFILL_MODE is plan: no sandbox is created.".to_owned(),
        (RefillMode::On, false, _) => format!("{}, and CSP refuses none.", pace()),
        (RefillMode::On, true, false) => {
            format!("{}. It has stopped, and stays so.", pace())
        }
        (RefillMode::On, true, true) => format!(
            "{}. Where it has stopped, it stays so; for the other pools, CSP refuses no creation.",
            pace()
        ),
    }
}

fn of_checks(context: &JobContext) -> String {
    let jobs = &context.jobs;
    let mode = match jobs.check.mode {
        CheckMode::Off => {
            return format!(
                "CHECK_MODE is off: a new sandbox is available when a sync, every {} s, has found its account.",
                jobs.sync_interval.as_secs()
            );
        }
        CheckMode::New => "new",
        CheckMode::All => "all",
    };
    format!(
        "CHECK_MODE is {mode}: a new sandbox is available when a check, every {} s, has found its account usable.",
        jobs.check.interval.as_secs()
    )
}

fn of_deletions(context: &JobContext) -> String {
    let jobs = &context.jobs;
    let seconds = (jobs.expiry_interval + jobs.cleanup_interval).as_secs();
    format!(
        "Allocations expire at their present ends, and at most {seconds} s after their grace period their sandboxes are \
         deleted, which makes room below max_total."
    )
}

fn of_pause(context: &JobContext, activity: Activity) -> Option<String> {
    let pause = context.pauses.of(activity)?;
    let what = match activity {
        Activity::Allocations => return None,
        Activity::Refill => "Refill is",
        Activity::Sync => "Sync and checks are",
        Activity::Expiry => "Expiry is",
        Activity::Deletions => "Deletions are",
    };
    Some(match pause.until {
        Some(until) => format!("{what} paused until {}, and not longer.", Utc(until)),
        None => format!("{what} paused until an operator ends that, and stays so."),
    })
}

/// A time as RFC 3339.
struct Utc(UnixSeconds);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_second(self.0.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => self.0.fmt(f),
        }
    }
}
