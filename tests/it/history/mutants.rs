//! The broker without each part of each condition of its writes.
//!
//! Each scenario makes writes that come too late or rest on outdated knowledge. With all conditions in place every
//! scenario passes; without any one part of any condition at least one scenario fails.

mod actions;
mod allocation;
mod changes;
mod extension;
mod leases;
mod pauses;
mod policy;
mod quota;
mod replacement;
mod retirement;
mod sources;
mod stage;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use self::stage::Scenario;
use super::{judge, setting, workload, world::Plan};
use crate::support::proxy::{Condition, Script};

/// Duration of one history, which is checked before the next one begins.
const EPOCH: Duration = Duration::from_secs(5);

fn scenarios() -> Vec<Scenario> {
    [
        actions::scenarios(),
        allocation::scenarios(),
        extension::scenarios(),
        replacement::scenarios(),
        retirement::scenarios(),
        changes::scenarios(),
        leases::scenarios(),
        pauses::scenarios(),
        quota::scenarios(),
        policy::scenarios(),
        tokens::scenarios(),
    ]
    .concat()
}

/// Returns which scenarios make which conditional write, after checking that all of them pass without a mutant.
async fn covered() -> BTreeMap<Condition, Vec<Scenario>> {
    let mut covered: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for scenario in scenarios() {
        let (outcome, conditions) = stage::play(scenario, None).await;
        assert_eq!(outcome, Ok(()), "{}", scenario.0);
        for condition in conditions {
            covered.entry(condition).or_default().push(scenario);
        }
    }
    covered
}

/// Returns the conditional writes of `conditions` that no scenario makes.
pub(super) async fn not_covered(conditions: &BTreeSet<Condition>) -> Vec<String> {
    let covered = covered().await;
    conditions
        .iter()
        .filter(|condition| !covered.contains_key(condition))
        .map(ToString::to_string)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_of_a_write_is_needed_in_some_scenario() {
    let covered = covered().await;
    let mut survivors = Vec::new();
    for (condition, scenarios) in &covered {
        for mutant in condition.mutants() {
            let mut caught = None;
            for scenario in scenarios {
                if let (Err(fault), _) = stage::play(*scenario, Some(mutant.clone())).await {
                    caught = Some((scenario.0, fault));
                    break;
                }
            }
            match caught {
                Some((scenario, fault)) => println!("{mutant}\n    caught: {scenario}: {fault}"),
                None => survivors.push(mutant.to_string()),
            }
        }
    }
    assert_eq!(survivors, [""; 0]);
}

/// The scan finds the expressions by itself, so a new conditional write without a scenario fails this test.
#[tokio::test(flavor = "multi_thread")]
async fn scenarios_make_every_conditional_write_of_the_sources() {
    let covered: Vec<_> = covered().await.into_keys().collect();
    let sites = sources::sites();
    let missing = sources::not_made(&sites, &covered);
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    let unknown: Vec<_> = covered
        .iter()
        .filter(|condition| !sites.iter().any(|site| site.matches(&condition.text)))
        .map(ToString::to_string)
        .collect();
    assert_eq!(unknown, [""; 0], "the scan of the sources has missed these");
}

/// Searches for each mutant with histories, for `MUTANT_SECONDS` each.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn histories_catch_some_mutants() {
    let limit = Duration::from_secs(setting("MUTANT_SECONDS").unwrap_or(30));
    let seed = setting("HISTORY_SEED").unwrap_or(1);
    let plan = Plan {
        seed,
        duration: EPOCH * 4,
        ..Plan::default()
    };
    let conditions = workload::run(plan, None).await.conditions;
    let (mut caught, mut all) = (0, 0);
    for mutant in conditions.iter().flat_map(Condition::mutants) {
        let began = Instant::now();
        let mut violation = None;
        let mut round = 0;
        while violation.is_none() && began.elapsed() < limit {
            let plan = Plan {
                seed: seed + round,
                duration: EPOCH,
                script: Script::of(0.002),
                between_tables: Duration::from_millis(200),
                crashes: false,
                ..Plan::default()
            };
            let epoch = workload::run(plan, Some(mutant.clone())).await;
            violation = judge(&epoch).err();
            round += 1;
        }
        all += 1;
        caught += usize::from(violation.is_some());
        let seconds = began.elapsed().as_secs();
        let violation = violation.unwrap_or_else(|| "only its scenario catches it".to_owned());
        let summary = violation.lines().take(2).collect::<Vec<_>>().join(": ");
        println!("{mutant}\n    {seconds} s: {summary}");
    }
    println!("histories caught {caught} of {all} mutants");
    assert!(caught > 0);
}
