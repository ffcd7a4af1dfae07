//! Histories: what happened, and whether a correct broker could have made it happen.

mod broker;
mod checker;
mod clients;
mod event;
mod figures;
mod mutants;
mod pool;
mod recorder;
mod surroundings;
mod workload;

use std::{path::PathBuf, time::Duration};

use self::{
    checker::{Terms, printed},
    figures::Figures,
    workload::{Epoch, Plan},
};
use crate::support::class_room;

/// Operations of one epoch, which is a history on a table of its own.
const EPOCH: usize = 20_000;

/// Further epochs for what did not happen in the first ones.
const PATIENCE: u64 = 8;

/// A whole number from the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}: {text:?} is no number")),
    )
}

fn terms() -> Terms {
    Terms {
        // Several pages, each with all its attempts.
        staleness: Duration::from_secs(8),
        ..Terms::default()
    }
}

/// Checks an epoch; what is wrong with it, if anything.
fn judge(epoch: &Epoch) -> Result<(), String> {
    let broken = |violation: checker::Violation| {
        let shortest = terms().shortest(&epoch.history, &violation);
        format!("{violation}\n{}", printed(&shortest))
    };
    terms().check(&epoch.history).map_err(broken)?;
    epoch.liveness.clone()
}

/// Where the whole history is kept when it is wrong.
fn keep(epoch: &Epoch) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = directory.join(format!("history-{}.json", epoch.seed));
    std::fs::write(&file, serde_json::to_vec(&epoch.history).unwrap()).unwrap();
    file
}

/// A history of `HISTORY_OPERATIONS` calls, or of `HISTORY_SECONDS`, by `HISTORY_CLIENTS` at once, from the seed
/// `HISTORY_SEED`.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_under_faults_is_one_that_a_correct_broker_could_have_produced() {
    let _room = class_room().await;
    let seed = setting("HISTORY_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let operations = setting("HISTORY_OPERATIONS").map(|count| usize::try_from(count).unwrap());
    let duration = setting("HISTORY_SECONDS").map_or(Duration::from_secs(20), Duration::from_secs);
    println!("HISTORY_SEED={seed}");
    let mut figures = Figures::default();
    let mut number = 0;
    loop {
        let left = operations.map(|all| all.saturating_sub(figures.operations()));
        let rest = duration.saturating_sub(figures.duration);
        let is_enough = left.map_or(rest.is_zero(), |left| left == 0);
        // On a slow machine not everything may have happened by then.
        if is_enough && (figures.missing().is_empty() || number > PATIENCE) {
            break;
        }
        let rest = if rest.is_zero() { duration } else { rest };
        let left = left.filter(|left| *left > 0);
        let plan = Plan {
            seed: seed.wrapping_add(number),
            operations: left.unwrap_or(usize::MAX).min(EPOCH),
            duration: if left.is_some() { Duration::MAX } else { rest },
            ..Plan::default()
        };
        let epoch = workload::run(plan, None).await;
        figures.add(&epoch);
        if let Err(fault) = judge(&epoch) {
            panic!(
                "HISTORY_SEED={}\n{fault}\nthe whole history is in {}\n{figures}",
                epoch.seed,
                keep(&epoch).display()
            );
        }
        number += 1;
        if operations.is_some() {
            println!("epoch {number}: {} operations in all", figures.operations());
        }
    }
    println!("seed {seed}\n{figures}");
    assert_eq!(figures.missing(), [""; 0]);
    assert_eq!(figures.defects(), [""; 0]);
}

/// A broker process of a history; see [`broker`].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "histories start it, as a process"]
async fn broker_of_a_history() {
    broker::serve().await;
}
