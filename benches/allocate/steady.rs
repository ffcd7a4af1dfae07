//! The steady part: a number of connections with one request at a time each.

use std::path::Path;

use anyhow::Result;

use crate::{bare::Load, broker::Broker, engine::Engine, report, table::Table};

/// Enough pairs that the retries of one pair rarely overlap, which would cost more than a retry.
const PAIRS: usize = 2_000;

pub async fn measure(
    engine: &Engine,
    program: &Path,
    connections: &[usize],
    seconds: u64,
    rounds: usize,
) -> Result<()> {
    report::steady_head();
    let mut bare_table = Table::create(engine).await?;
    let mut broker_table = Table::create(engine).await?;
    for &connections in connections {
        // Each connection needs time for several answers, also of a slow engine.
        let seconds = seconds.max(u64::try_from(connections / 100)?);
        // One second of warm-up.
        let most = engine.kind.max_per_second() * usize::try_from(seconds + 1)?;
        broker_table.grow_to(broker_table.count() + most).await?;
        // A new process for each number of connections, so that its peak of memory belongs to them.
        let broker = Broker::start(program, engine, &broker_table.name)?;
        broker.settle().await;
        for pairs in [0, PAIRS] {
            let mut measured = Vec::with_capacity(rounds);
            for round in 0..rounds {
                // A retry names a spare sandbox, which it does not allocate.
                let needed = if pairs > 0 { pairs + 1 } else { most };
                let first = bare_table.count();
                bare_table.grow_to(first + needed).await?;
                let load = Load {
                    endpoint: engine.endpoint().to_owned(),
                    table: bare_table.name.clone(),
                    connections,
                    seconds,
                    first,
                    end: first + needed,
                    pairs,
                };
                broker_table.grow_to(broker_table.count() + needed).await?;
                let run = format!("play-{connections}-{pairs}-{round}");
                let load_broker = broker.load(connections, seconds, &run, pairs);
                measured.push(if round % 2 == 0 {
                    (load.measure()?, load_broker.await?)
                } else {
                    let outcome = load_broker.await?;
                    (load.measure()?, outcome)
                });
            }
            report::steady(connections, pairs > 0, &measured);
        }
    }
    Ok(())
}
