//! The results of checks, which lead to `available`, to `quarantined`, or to a later check.

use aws_sdk_dynamodb::types::{TransactWriteItem, builders::UpdateBuilder};

use super::{CheckResult, Fault, SET, SET_ASIDE, action};
use crate::{
    clock::UnixSeconds,
    domain::{Readiness, Status, Transition},
    store::{
        PoolStore,
        item::{number, string},
    },
};

impl PoolStore {
    /// Returns the actions that write the result of a check. The condition names the status, the account and the last check
    /// as they were read, so that a change of the sandbox since then prevails.
    pub(super) fn checked(
        &self,
        result: &CheckResult,
        now: UnixSeconds,
    ) -> Result<Vec<TransactWriteItem>, Fault> {
        let CheckResult {
            sandbox,
            readiness,
            to,
            quarantine,
        } = result;
        let update = match (sandbox.status, to) {
            (Status::Provisioning, Status::Available) => {
                self.transition(sandbox.id(), Transition::Provide, now)
            }
            (from, to) => self.update(sandbox.id(), from, *to, now),
        };
        let (update, set, mut removed) = set_readiness(update, readiness);
        let (update, beginning) = match quarantine {
            Some((reason, record)) => {
                removed.push("quarantined_until");
                let update = update
                    .expression_attribute_values(":by", string(&*record.author.name))
                    .expression_attribute_values(":reason", string(reason.as_str()));
                (update, SET_ASIDE)
            }
            None => (update, SET),
        };
        let removal = if removed.is_empty() {
            String::new()
        } else {
            format!(" REMOVE {}", removed.join(", "))
        };
        let update = update
            .update_expression(format!("{beginning}{set}{removal}"))
            .expression_attribute_values(":account", string(&sandbox.account.external_id));
        let update = match sandbox.readiness.checked_at {
            None => update
                .condition_expression(
                    "#status = :from AND external_id = :account AND NOT attribute_type(checked_at, :number)",
                )
                .expression_attribute_values(":number", string("N")),
            Some(checked_at) => update
                .condition_expression(
                    "#status = :from AND external_id = :account AND checked_at = :seen",
                )
                .expression_attribute_values(":seen", number(checked_at.0)),
        };
        let mut actions = vec![action(update)?];
        if let Some((_, record)) = quarantine {
            actions.extend(self.audit_actions(record)?);
        }
        Ok(actions)
    }
}

/// Adds the values of the results of checks. Returns with the update the assignments that use them, and the names of the
/// attributes to remove.
fn set_readiness(
    update: UpdateBuilder,
    readiness: &Readiness,
) -> (UpdateBuilder, String, Vec<&'static str>) {
    let Readiness {
        usable_at,
        checked_at,
        next_check_at,
        failures,
        unusable_sec,
        error,
    } = readiness;
    let time = |at: &Option<UnixSeconds>| at.map(|at| number(at.0));
    let count = |count: u32| (count > 0).then(|| number(count));
    let (mut update, mut set, mut removed) = (update, Vec::new(), Vec::new());
    for (name, value) in [
        ("usable_at", time(usable_at)),
        ("checked_at", time(checked_at)),
        ("next_check_at", time(next_check_at)),
        ("check_failures", count(*failures)),
        ("unusable_sec", count(*unusable_sec)),
        ("check_error", error.as_ref().map(string)),
    ] {
        match value {
            Some(value) => {
                set.push(format!(", {name} = :{name}"));
                update = update.expression_attribute_values(format!(":{name}"), value);
            }
            None => removed.push(name),
        }
    }
    (update, set.concat(), removed)
}
