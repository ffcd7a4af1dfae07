//! Modes of the jobs check and refill: settings that a mode turns off, and modes that do harm together.

use std::time::Duration;

use super::reader::Reader;
use crate::jobs::{CheckMode, JobsConfig, RefillMode};

/// Settings without effect while accounts are not checked.
const CHECK: [&str; 5] = [
    "CHECK_INTERVAL_SEC",
    "RECHECK_HOURS",
    "CHECK_MAX_FAILURES",
    "CHECK_BATCH_SIZE",
    "CHECK_BATCH_DELAY_SEC",
];
/// Settings without effect while refill does not run.
const REFILL: [&str; 4] = [
    "REFILL_INTERVAL_SEC",
    "REFILL_BATCH",
    "REFILL_DELAY_SEC",
    "REFILL_SETTLE_SEC",
];
/// Refill asks CSP for an account that no sync has listed for this long.
const LONGEST_SYNC_INTERVAL: Duration = Duration::from_hours(1);

/// Warns of settings that a mode turns off, and of modes that do harm together. Called when all variables have been read.
pub(super) fn warn_of_modes(reader: &mut Reader<'_>, jobs: &JobsConfig) {
    let (check, refill) = (jobs.check.mode, jobs.refill.mode);
    let mut turned_off: Vec<(&str, &str)> = Vec::new();
    match check {
        CheckMode::Off => turned_off.extend(CHECK.map(|name| (name, "CHECK_MODE=off"))),
        CheckMode::New => turned_off.push(("RECHECK_HOURS", "CHECK_MODE=new")),
        CheckMode::All => {}
    }
    if refill == RefillMode::Off {
        turned_off.extend(REFILL.map(|name| (name, "REFILL_MODE=off")));
        if check == CheckMode::Off {
            // Refill also assumes that a creation takes so long, until it has measured some.
            turned_off.push(("PROVISION_TIMEOUT_MINUTES", "CHECK_MODE=off"));
        }
    }
    for (name, mode) in turned_off {
        if reader.raw(name).is_some() {
            reader.warn(format!("{name} has no effect with {mode}"));
        }
    }
    if refill != RefillMode::On {
        return;
    }
    if check == CheckMode::Off {
        reader.warn(
            "REFILL_MODE=on with CHECK_MODE=off: new sandboxes can be allocated before their accounts are usable, \
             which takes some minutes; set CHECK_MODE=new",
        );
    }
    if jobs.sync_interval > LONGEST_SYNC_INTERVAL {
        reader.warn(
            "REFILL_MODE=on with SYNC_INTERVAL_SEC above 3600: accounts that refill creates are in the pool only after a \
             sync; set a shorter SYNC_INTERVAL_SEC",
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Variables};

    fn warnings(variables: &[(&str, &str)]) -> Vec<String> {
        let user = [
            ("NIOSXAAS_EMAIL", "checks@example.com"),
            ("NIOSXAAS_PASSWORD", "secret"),
        ];
        let variables = variables.iter().chain(&user);
        let variables: Variables = variables
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let config = Config::from_variables(&variables).unwrap();
        let mut warnings = config.warnings().to_vec();
        warnings.retain(|warning| {
            ["CHECK", "PROVISION", "REFILL"]
                .iter()
                .any(|word| warning.contains(word))
        });
        warnings
    }

    #[test]
    fn settings_of_a_job_that_is_off_have_no_effect() {
        assert!(warnings(&[]).is_empty());
        assert_eq!(
            warnings(&[
                ("CHECK_BATCH_SIZE", "3"),
                ("PROVISION_TIMEOUT_MINUTES", "9"),
                ("REFILL_BATCH", "3")
            ]),
            [
                "CHECK_BATCH_SIZE has no effect with CHECK_MODE=off",
                "REFILL_BATCH has no effect with REFILL_MODE=off",
                "PROVISION_TIMEOUT_MINUTES has no effect with CHECK_MODE=off",
            ]
        );
        assert_eq!(
            warnings(&[
                ("CHECK_MODE", "new"),
                ("RECHECK_HOURS", "9"),
                ("CHECK_BATCH_SIZE", "3")
            ]),
            ["RECHECK_HOURS has no effect with CHECK_MODE=new"]
        );
        let all = [("CHECK_MODE", "all"), ("RECHECK_HOURS", "9")];
        assert!(warnings(&all).is_empty());
        let plan = [
            ("REFILL_MODE", "plan"),
            ("REFILL_BATCH", "3"),
            ("PROVISION_TIMEOUT_MINUTES", "9"),
        ];
        assert!(warnings(&plan).is_empty());
    }

    #[test]
    fn accounts_that_are_created_have_to_be_checked_and_listed() {
        let checked = [("REFILL_MODE", "on"), ("CHECK_MODE", "new")];
        assert!(warnings(&checked).is_empty());
        let unchecked = warnings(&[("REFILL_MODE", "on")]);
        assert!(
            matches!(&unchecked[..], [warning] if warning.ends_with("set CHECK_MODE=new")),
            "{unchecked:?}"
        );
        let rarely = warnings(&[checked[0], checked[1], ("SYNC_INTERVAL_SEC", "3601")]);
        assert!(
            matches!(&rarely[..], [warning] if warning.ends_with("set a shorter SYNC_INTERVAL_SEC")),
            "{rarely:?}"
        );
    }
}
