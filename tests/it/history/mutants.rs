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
mod refill;
mod replacement;
mod retirement;
mod sources;
mod stage;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, future::ready, stream};
use tokio::{sync::OnceCell, time::Instant};

use self::stage::Scenario;
use super::{judge, setting, workload, world::Plan};
use crate::support::proxy::{Condition, Mutant, Script};

/// Duration of one history, which is checked before the next one begins.
const EPOCH: Duration = Duration::from_secs(5);

/// Mutants that are tried at once, each on an engine of its own: a scenario waits for its calls most of its time.
const MUTANTS_AT_ONCE: usize = 4;

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
        refill::scenarios(),
        policy::scenarios(),
        tokens::scenarios(),
    ]
    .concat()
}

/// Returns which scenarios make which conditional write, after checking that all of them pass without a mutant. The first
/// test that asks plays them for all tests.
async fn covered() -> &'static BTreeMap<Condition, Vec<Scenario>> {
    static COVERED: OnceCell<BTreeMap<Condition, Vec<Scenario>>> = OnceCell::const_new();
    let play_all = async || {
        let mut covered: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for scenario in scenarios() {
            let (outcome, conditions) = stage::play(scenario, None).await;
            assert_eq!(outcome, Ok(()), "{}", scenario.0);
            for condition in conditions {
                covered.entry(condition).or_default().push(scenario);
            }
        }
        covered
    };
    COVERED.get_or_init(play_all).await
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

/// Returns the mutant if no scenario fails with it.
async fn survivor(mutant: Mutant, scenarios: &[Scenario]) -> Option<String> {
    for scenario in scenarios {
        if let (Err(fault), _) = stage::play(*scenario, Some(mutant.clone())).await {
            println!("{mutant}\n    caught: {}: {fault}", scenario.0);
            return None;
        }
    }
    Some(mutant.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_of_a_write_is_needed_in_some_scenario() {
    let mutants = covered().await.iter().flat_map(|(condition, scenarios)| {
        let mutants = condition.mutants();
        mutants.map(move |mutant| survivor(mutant, scenarios))
    });
    let survivors = stream::iter(mutants).buffer_unordered(MUTANTS_AT_ONCE);
    let survivors: Vec<_> = survivors.filter_map(ready).collect().await;
    assert_eq!(survivors, [""; 0]);
}

/// The scan finds the expressions by itself, so a new conditional write without a scenario fails this test.
#[tokio::test(flavor = "multi_thread")]
async fn scenarios_make_every_conditional_write_of_the_sources() {
    let covered: Vec<_> = covered().await.keys().cloned().collect();
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
