//! The conditions that need the attention of an operator, and what to do about them.

use std::{fmt::Write as _, time::Duration};

use super::{JobOverview, WarningCode};
use crate::{
    broker::policy::PolicyStatus,
    clock::UnixSeconds,
    domain::{
        JobName, NO_POLICY, Pause, PoolState, PoolStatus, RunRecord, RunState, UnreadableCount,
    },
    jobs::pool_report::PoolReport,
};

const DAY: Duration = Duration::from_hours(24);
/// How many sandboxes checks quarantine within an hour before that is a warning, as in the alert rules. Single accounts
/// break; several at once have a common cause.
const MANY_QUARANTINES: u64 = 3;
/// The most warnings of pools. A policy has up to 1,000, and one cause mostly concerns all of them.
const MAX_POOLS: usize = 20;

/// Returns the warnings about the counts of all sandboxes.
pub(super) fn warnings_of_pool(report: &PoolReport, low_below: u64) -> Vec<(WarningCode, String)> {
    let counts = &report.snapshot.counts;
    let failed = (counts.deletion_failed > 0).then(|| {
        let message = format!(
            "{} could not be deleted from CSP. The list of sandboxes has the reasons; then retry the deletions.",
            sandboxes(counts.deletion_failed)
        );
        (WarningCode::DeletionsFailed, message)
    });
    let quarantined = report.quarantined_by_checks;
    let growing = (quarantined >= MANY_QUARANTINES).then(|| {
        let message = format!(
            "Checks have quarantined {} within the last hour. The list of sandboxes has the reasons; if CSP or the user \
             of the checks is at fault, correct that, then restore the sandboxes.",
            sandboxes(quarantined)
        );
        (WarningCode::QuarantineGrowing, message)
    });
    let unreadable = report
        .snapshot
        .unreadable
        .filter(|unreadable| unreadable.count > 0);
    let unreadable = unreadable.map(|UnreadableCount { count, at }| {
        let (items, have) = if count == 1 { ("item", "has") } else { ("items", "have") };
        let message = format!(
            "{count} {items} of the pool could not be read at {}, and {have} to be repaired in the pool's table: no \
             job changes them. The list of sandboxes (GET /v1/admin/sandboxes) shows them with their faults.",
            at.iso()
        );
        (WarningCode::ItemsUnreadable, message)
    });
    low_pool(report, low_below)
        .into_iter()
        .chain(failed)
        .chain(growing)
        .chain(unreadable)
        .collect()
}

/// Returns the warning that few sandboxes are available. Those that will be in time count, but an empty pool is one
/// always: allocations are rejected until then.
fn low_pool(report: &PoolReport, low_below: u64) -> Option<(WarningCode, String)> {
    let (available, expected) = (report.snapshot.counts.available, report.expected);
    if available == 0 {
        let remedy = match (expected, on_the_way(report)) {
            (0, 0) => "Create accounts in CSP, then run sync.".to_owned(),
            (0, coming) => format!(
                "{} on the way, but refill of their pools is late or stopped.",
                sandboxes_are(coming)
            ),
            (expected, _) => format!(
                "{} being created or checked, and will be available in time.",
                sandboxes_are(expected)
            ),
        };
        let message = format!("No sandbox is available: allocations are rejected. {remedy}");
        return Some((WarningCode::PoolEmpty, message));
    }
    (expected < low_below).then(|| {
        let coming = match expected - available {
            0 => String::new(),
            coming => format!(" and {coming} will be in time,"),
        };
        let message = format!(
            "{} available,{coming} fewer than {low_below}.",
            sandboxes_are(available)
        );
        (WarningCode::PoolLow, message)
    })
}

/// Returns how many sandboxes are being created or checked, whether or not they will be available in time. A creation
/// that CSP refuses is not one of them.
fn on_the_way(report: &PoolReport) -> u64 {
    let pools = report.pools.iter().filter(|pool| !pool.is_stopped());
    report.snapshot.counts.provisioning + pools.map(PoolStatus::under_way).sum::<u64>()
}

/// Returns the warnings about the pools of the policy.
pub(super) fn warnings_of_pools(report: &PoolReport) -> Vec<(WarningCode, String)> {
    let is_empty = report.snapshot.counts.available == 0;
    let warnings = report.pools.iter().filter_map(warning_of_pool);
    // One warning that no sandbox is available is enough.
    let mut warnings: Vec<_> = warnings
        .filter(|(code, _)| !(is_empty && *code == WarningCode::PoolEmpty))
        .collect();
    let more = warnings.len().saturating_sub(MAX_POOLS);
    warnings.truncate(MAX_POOLS);
    if let Some((_, message)) = warnings.last_mut().filter(|_| more > 0) {
        let are = if more == 1 { "pool is" } else { "pools are" };
        // Writing to a string does not fail.
        let _ = write!(message, " {more} more {are} late, stopped or empty.");
    }
    warnings
}

fn warning_of_pool(pool: &PoolStatus) -> Option<(WarningCode, String)> {
    let (name, available, target) = (&pool.name_prefix, pool.counts.available, pool.target.target);
    match (pool.state, pool.since, pool.reason.as_deref()) {
        (PoolState::Late, Some(since), Some(reason)) => {
            let message = format!(
                "The pool {name} has been late since {}: {available} of {target} sandboxes are available; {reason}. \
                 Look at the runs of refill, sync and check, and at the sandboxes that are provisioning.",
                since.iso()
            );
            Some((WarningCode::PoolLate, message))
        }
        (PoolState::Stopped, since, Some(reason)) => {
            let since = since
                .map(|since| format!(" since {}", since.iso()))
                .unwrap_or_default();
            let message = format!(
                "No account has been created for the pool {name}{since}: {reason}. Correct the cause, in CSP or in the policy. \
                 Refill tries again every 15 minutes, and at once when the policy changes or an operator runs it."
            );
            Some((WarningCode::RefillStopped, message))
        }
        (state, _, reason) if available == 0 && target > 0 => {
            let remedy = match (state, reason) {
                (PoolState::Watched, _) => "Create accounts in CSP, then run sync.".to_owned(),
                (_, Some(reason)) => format!("It is not filled, because {reason}."),
                (_, None) => {
                    let coming = pool.counts.provisioning + pool.under_way();
                    format!("{} on the way.", sandboxes_are(coming))
                }
            };
            let message = format!(
                "No sandbox of the pool {name} is available: allocations from it are rejected. {remedy}"
            );
            Some((WarningCode::PoolEmpty, message))
        }
        _ => None,
    }
}

pub(super) fn warnings_of_services(
    breakers: &[(&'static str, &'static str)],
    rejected: &[(&'static str, Option<UnixSeconds>)],
) -> impl Iterator<Item = (WarningCode, String)> {
    let open = breakers.iter().filter(|(_, state)| *state == "open");
    let open = open.map(|(name, _)| {
        let message = format!("Calls to {name} are paused, because too many in a row failed.");
        (WarningCode::BreakerOpen, message)
    });
    let rejected = rejected.iter().filter_map(|(name, since)| {
        let effect = if *name == "niosxaas" {
            "No account is checked, and no NIOSXaaS service is deleted, until NIOSXAAS_EMAIL and NIOSXAAS_PASSWORD are \
             valid. Sync and the deletion of accounts go on."
        } else {
            "Nothing is synchronised, created or deleted until they are replaced."
        };
        let message = format!(
            "{name} has rejected the broker's credentials since {}. {effect}",
            (*since)?
        );
        Some((WarningCode::CredentialsRejected, message))
    });
    open.chain(rejected)
}

pub(super) fn warning_of_pause(pause: &Pause) -> (WarningCode, String) {
    let mut message = pause.to_string();
    // An activity's name is in ASCII.
    if let Some(first) = message.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    (WarningCode::ActivityPaused, message)
}

pub(super) fn warning_of_policy(policy: &PolicyStatus) -> Option<(WarningCode, String)> {
    let fault = policy.fault.as_ref()?;
    let in_force = match policy.number() {
        NO_POLICY => "the terms of the environment are".to_owned(),
        number => format!("version {number} is"),
    };
    let message = format!("The policy cannot be read, so {in_force} in force here: {fault}");
    Some((WarningCode::PolicyUnreadable, message))
}

/// Formats a number of sandboxes: `1 sandbox`, `2 sandboxes`.
fn sandboxes(count: u64) -> String {
    let plural = if count == 1 { "" } else { "es" };
    format!("{count} sandbox{plural}")
}

/// Formats a number of sandboxes as the beginning of a sentence: `1 sandbox is`, `2 sandboxes are`.
fn sandboxes_are(count: u64) -> String {
    let are = if count == 1 { "is" } else { "are" };
    format!("{} {are}", sandboxes(count))
}

pub(super) fn warnings_of_job(
    job: &JobOverview,
    now: UnixSeconds,
) -> impl Iterator<Item = (WarningCode, String)> {
    let name = job.job;
    // A job without an interval has no next run that would replace a failed one, so its failure expires.
    let is_recent = |run: &RunRecord| job.interval.is_some() || run.updated_at + DAY >= now;
    let overdue = job.is_overdue.then(|| {
        let message =
            format!("{name} has not succeeded for a long time. Its run records have the reasons.");
        (WarningCode::JobOverdue, message)
    });
    let failed = job
        .last_run
        .as_ref()
        .filter(|run| run.state == RunState::Failed && is_recent(run))
        .map(|run| {
            let error = run.error.as_deref().unwrap_or("unknown reason");
            (
                WarningCode::JobFailed,
                format!("The last run of {name} failed: {error}"),
            )
        });
    let stopped = job
        .last_run
        .as_ref()
        // A pause has a warning of its own while it is in force. A job that is off has no run that would replace this one.
        .filter(|run| run.state != RunState::Paused && job.off_by.is_none())
        .and_then(|run| run.counts.get("stopped")?.as_str())
        .map(|reason| match name {
            JobName::Check | JobName::Refill => {
                let message =
                    format!("The last {name} ended before all its work was done: {reason}");
                (WarningCode::JobStopped, message)
            }
            _ => {
                let message = format!("The last {name} deferred deletions: {reason}");
                (WarningCode::DeletionsStopped, message)
            }
        });
    let deferred = job
        .last_run
        .as_ref()
        .and_then(|run| run.counts.get("expiry_guard")?.as_str())
        .map(|reason| {
            let message = format!("The last {name} retired nothing: {reason}");
            (WarningCode::ExpiryDeferred, message)
        });
    let of_counts = stopped.into_iter().chain(deferred);
    overdue.into_iter().chain(failed).chain(of_counts)
}

#[cfg(test)]
mod tests;
