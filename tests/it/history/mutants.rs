//! The broker without each of its conditions. Whatever the histories do not show within a while, a scenario does.

mod allocating;
mod leases;
mod leaving;
mod stage;
mod upkeep;

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use self::stage::Scenario;
use super::{
    judge, setting,
    workload::{self, Plan},
};
use crate::support::faults::{Condition, Script};

/// An epoch is checked after so many seconds, and the next begins.
const EPOCH: Duration = Duration::from_secs(5);

fn scenarios() -> Vec<Scenario> {
    [
        allocating::scenarios(),
        leaving::scenarios(),
        upkeep::scenarios(),
        leases::scenarios(),
    ]
    .concat()
}

/// Which scenarios make which conditional write. Without a mutant all of them pass.
async fn met() -> BTreeMap<Condition, Vec<Scenario>> {
    let mut met: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for scenario in scenarios() {
        let (outcome, conditions) = stage::play(scenario, None).await;
        assert_eq!(outcome, Ok(()), "{}", scenario.0);
        for condition in conditions {
            met.entry(condition).or_default().push(scenario);
        }
    }
    met
}

/// The conditional writes that histories make.
async fn of_histories(seed: u64) -> Vec<Condition> {
    let plan = Plan {
        seed,
        duration: EPOCH * 4,
        ..Plan::default()
    };
    workload::run(plan, None).await.conditions
}

/// In how many places the broker's sources make a write conditional.
fn in_the_sources() -> usize {
    let sources = [
        include_str!("../../../src/store/change.rs"),
        include_str!("../../../src/store/change/batch.rs"),
        include_str!("../../../src/store/change/deletion.rs"),
        include_str!("../../../src/store/claim.rs"),
        include_str!("../../../src/store/lease.rs"),
        include_str!("../../../src/store/migration.rs"),
        include_str!("../../../src/store/retire.rs"),
        include_str!("../../../src/store/runs.rs"),
    ];
    let calls = sources
        .iter()
        .map(|source| source.matches(".condition_expression(").count());
    calls.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_of_a_write_is_needed_in_some_scenario() {
    let met = met().await;
    let mut survivors = Vec::new();
    for (condition, scenarios) in &met {
        for number in 0..condition.conjuncts().len() {
            let mut caught = None;
            for scenario in scenarios {
                let mutant = condition.mutants().nth(number);
                if let (Err(fault), _) = stage::play(*scenario, mutant).await {
                    caught = Some((scenario.0, fault));
                    break;
                }
            }
            let mutant = condition.mutants().nth(number).unwrap();
            match caught {
                Some((scenario, fault)) => println!("{mutant}\n    caught: {scenario}: {fault}"),
                None => survivors.push(mutant.to_string()),
            }
        }
    }
    assert_eq!(survivors, [""; 0]);
    // Whoever adds a conditional write adds a scenario that makes it.
    assert_eq!((in_the_sources(), met.len()), (25, 30));
}

/// With `MUTANT_SECONDS` for each mutant.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn every_condition_of_a_write_is_needed() {
    let patience = Duration::from_secs(setting("MUTANT_SECONDS").unwrap_or(30));
    let seed = setting("HISTORY_SEED").unwrap_or(1);
    let met = met().await;
    let of_histories = of_histories(seed).await;
    let unmet: Vec<_> = of_histories
        .iter()
        .filter(|condition| !met.contains_key(condition))
        .map(ToString::to_string)
        .collect();
    assert_eq!(unmet, [""; 0], "no scenario makes these writes");
    let (mut by_history, mut all) = (0, 0);
    for condition in &of_histories {
        for number in 0..condition.conjuncts().len() {
            let began = Instant::now();
            let mut found = None;
            let mut round = 0;
            while found.is_none() && began.elapsed() < patience {
                let plan = Plan {
                    seed: seed + round,
                    duration: EPOCH,
                    script: Script::of(0.002),
                    between_tables: Duration::from_millis(200),
                    crashes: false,
                    ..Plan::default()
                };
                let epoch = workload::run(plan, condition.mutants().nth(number)).await;
                found = judge(&epoch).err();
                round += 1;
            }
            all += 1;
            by_history += usize::from(found.is_some());
            let seconds = began.elapsed().as_secs();
            let found = found.unwrap_or_else(|| "left to its scenario".to_owned());
            let first = found.lines().take(2).collect::<Vec<_>>().join(": ");
            println!(
                "{}\n    {seconds} s: {first}",
                condition.mutants().nth(number).unwrap()
            );
        }
    }
    println!("histories caught {by_history} of {all} mutants");
    assert!(by_history > 0);
}
