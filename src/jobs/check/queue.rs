//! The sandboxes whose accounts a run checks.

use std::collections::VecDeque;

use crate::{
    domain::{CheckRules, Sandbox, Status},
    jobs::{CheckMode, JobContext},
    store::StoreError,
};

/// Sandboxes in the order in which they are checked.
pub(super) type Sandboxes = VecDeque<Sandbox>;

/// The sandboxes to check, and counts of those that were read.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) sandboxes: Sandboxes,
    /// The number of available sandboxes, if they are rechecked.
    pub(super) available: usize,
    /// The number of unreadable items in the statuses that were read.
    pub(super) unreadable: usize,
}

impl Queue {
    /// Reads the sandboxes that are to be checked now.
    pub(super) async fn read(context: &JobContext) -> Result<Self, StoreError> {
        let config = &context.jobs.check;
        let new = context.store.in_status(Status::Provisioning).await?;
        let mut unreadable = new.unreadable;
        let mut available = Vec::new();
        if config.mode == CheckMode::All {
            let read = context.store.in_status(Status::Available).await?;
            unreadable += read.unreadable;
            available = read.sandboxes;
        }
        let (count, now) = (available.len(), context.clock.now());
        let is_due = |one: &Sandbox| one.is_check_due(now, &config.rules());
        let new = new.sandboxes.into_iter().filter(is_due).collect();
        let sandboxes = in_order(new, available, is_due, &config.rules());
        Ok(Self {
            sandboxes,
            available: count,
            unreadable,
        })
    }
}

/// Returns whether a sandbox is available, and its account checked again.
pub(super) fn is_recheck(sandbox: &Sandbox) -> bool {
    sandbox.status == Status::Available
}

/// Returns the sandboxes that are due, in the order of their checks.
///
/// If an answer could set an available sandbox aside, a sound one is checked too, due or not: unless the run finds a usable
/// account, CSP is more likely at fault than the account.
fn in_order(
    new: Vec<Sandbox>,
    available: Vec<Sandbox>,
    is_due: impl Fn(&Sandbox) -> bool,
    rules: &CheckRules,
) -> Sandboxes {
    let (mut due, others): (Vec<_>, Vec<_>) = available.into_iter().partition(is_due);
    let is_last = |one: &Sandbox| one.readiness.failures.saturating_add(1) >= rules.max_failures;
    let is_sound = |one: &&Sandbox| one.readiness.failures == 0;
    if due.iter().any(is_last) && !due.iter().any(|one| is_sound(&one)) {
        let longest_ago = others
            .into_iter()
            .filter(|one| is_sound(&one))
            .min_by_key(Sandbox::check_order);
        due.extend(longest_ago);
    }
    due.extend(new);
    due.sort_by_cached_key(Sandbox::check_order);
    due.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::UnixSeconds,
        domain::{Account, Readiness, SandboxId},
    };

    const RULES: CheckRules = CheckRules {
        interval: Duration::from_mins(1),
        provision_timeout: Duration::from_mins(30),
        max_failures: 3,
        recheck_after: Duration::from_hours(24),
    };

    fn sandbox(id: &str, status: Status, failures: u32, checked_at: i64) -> Sandbox {
        let account = Account {
            sandbox_id: SandboxId::stored(id),
            name: id.to_owned(),
            external_id: format!("identity/accounts/{id}"),
            sfdc_account_id: None,
            created_at: None,
        };
        Sandbox {
            status,
            readiness: Readiness {
                checked_at: Some(UnixSeconds(checked_at)),
                next_check_at: (failures > 0).then_some(UnixSeconds(0)),
                failures,
                ..Readiness::default()
            },
            ..Sandbox::available(account)
        }
    }

    fn ids(new: Vec<Sandbox>, available: Vec<Sandbox>, due: &[&str]) -> Vec<String> {
        let is_due = |one: &Sandbox| due.contains(&one.id().as_str());
        let queue = in_order(new, available, is_due, &RULES);
        queue.iter().map(|one| one.id().to_string()).collect()
    }

    #[test]
    fn sound_sandbox_is_checked_besides_one_that_may_be_set_aside() {
        let available = || {
            vec![
                sandbox("failing", Status::Available, 2, 3),
                sandbox("younger", Status::Available, 0, 2),
                sandbox("older", Status::Available, 0, 1),
            ]
        };
        assert_eq!(ids(vec![], available(), &["failing"]), ["older", "failing"]);
        assert_eq!(
            ids(vec![], available(), &["failing", "younger"]),
            ["younger", "failing"]
        );
        let mut early = available();
        early[0].readiness.failures = 1;
        assert_eq!(ids(vec![], early, &["failing"]), ["failing"]);
    }

    #[test]
    fn new_sandboxes_are_checked_before_available_ones() {
        let new = vec![sandbox("new", Status::Provisioning, 0, 9)];
        let available = vec![sandbox("old", Status::Available, 0, 1)];
        assert_eq!(ids(new, available, &["old"]), ["new", "old"]);
    }
}
