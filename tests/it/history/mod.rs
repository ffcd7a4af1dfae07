//! Histories of brokers under faults, and the check whether a correct broker could have produced them.

mod accounts;
mod broker;
mod calls;
mod checker;
mod clients;
mod csp_faults;
mod environment;
mod event;
mod figures;
mod filled_pool;
mod labs;
mod lease_calls;
mod memories;
mod mutants;
mod operator_calls;
mod pool;
mod pools;
mod recorder;
mod rehearsal;
mod workload;
mod world;

use std::{path::PathBuf, time::Duration};

use self::{
    checker::{Terms, printed},
    figures::Figures,
    workload::Epoch,
    world::Plan,
};
use crate::support::run_alone;

/// Maximum number of operations of one epoch, which is a history on a table of its own.
const EPOCH: usize = 20_000;

/// Maximum number of epochs beyond the planned ones, if expected events have not happened yet.
const EXTRA_EPOCHS: u64 = 8;

/// Reads a whole number from the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}: {text:?} is not a number")),
    )
}

fn terms() -> Terms {
    Terms {
        // Covers a scan of several pages, each with all its retries.
        staleness: Duration::from_secs(8),
        policy_lag: Duration::from_secs(15),
        ..Terms::default()
    }
}

/// Checks an epoch; an error describes the violation.
fn judge(epoch: &Epoch) -> Result<(), String> {
    let describe = |violation: checker::Violation| {
        let shortest = terms().shortest(&epoch.history, &violation);
        format!("{violation}\n{}", printed(&shortest))
    };
    terms().check(&epoch.history).map_err(describe)?;
    epoch.liveness.clone()
}

/// Writes the history of a failed epoch to a file and returns its path.
fn save(epoch: &Epoch) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = directory.join(format!("history-{}.json", epoch.seed));
    std::fs::write(&file, serde_json::to_vec(&epoch.history).unwrap()).unwrap();
    file
}

/// Runs `HISTORY_OPERATIONS` calls, or for `HISTORY_SECONDS`, with `HISTORY_CLIENTS` concurrent clients from the seed
/// `HISTORY_SEED`.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_under_faults_breaks_no_promise() {
    let _alone = run_alone().await;
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
        // On a slow machine some expected events may not have happened by then.
        if is_enough && (figures.missing().is_empty() || number > EXTRA_EPOCHS) {
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
                save(&epoch).display()
            );
        }
        number += 1;
        println!("not seen in {number} epochs: {:?}", figures.missing());
        if operations.is_some() {
            println!(
                "epoch {number}: {} operations in total",
                figures.operations()
            );
        }
    }
    println!("seed {seed}\n{figures}");
    assert_eq!(figures.missing(), [""; 0]);
    assert_eq!(figures.defects(), [""; 0]);
    let not_covered = mutants::not_covered(&figures.conditions).await;
    assert_eq!(
        not_covered, [""; 0],
        "no scenario of a mutant makes these writes"
    );
}

/// A broker process of a history; see [`broker`].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "histories start it as a process"]
async fn broker_of_a_history() {
    broker::serve().await;
}
