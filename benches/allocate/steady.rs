//! So many connections, each with one request at a time.

use std::path::Path;

use anyhow::Result;

use crate::{
    bare::{Load, Outcome},
    broker::Broker,
    engine::Engine,
    report,
    table::Table,
};

/// Enough that few retries of one pair meet each other, which is another thing than a retry.
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
    // One second of warm-up.
    let most = engine.kind.most_per_second() * usize::try_from(seconds + 1)?;
    broker_table.grow_to(most).await?;
    for &connections in connections {
        // A new one for each number of connections, whose memory is told.
        let broker = Broker::start(program, engine, &broker_table.name)?;
        for pairs in [0, PAIRS] {
            let mut measured = Vec::with_capacity(rounds);
            for round in 0..rounds {
                // A retry needs a spare sandbox, too.
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
                let ask = broker.load(connections, seconds, &run, pairs);
                measured.push(if round % 2 == 0 {
                    (load.measure()?, ask.await?)
                } else {
                    let asked = ask.await?;
                    (load.measure()?, asked)
                });
            }
            report::steady(connections, pairs > 0, &measured);
        }
    }
    Ok(())
}

/// The middle one by a figure.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median of each figure.
pub fn typical(outcomes: &[Outcome]) -> Outcome {
    let of = |figure: fn(&Outcome) -> f64| median(outcomes.iter().map(figure).collect());
    Outcome {
        per_second: of(|outcome| outcome.per_second),
        p50_us: of(|outcome| outcome.p50_us),
        p95_us: of(|outcome| outcome.p95_us),
        p99_us: of(|outcome| outcome.p99_us),
        cpu_us: of(|outcome| outcome.cpu_us),
        resident_mib: of(|outcome| outcome.resident_mib),
    }
}
