//! Tables in Markdown.

use anyhow::Result;
use sandbox_broker::clock::{Clock, SystemClock};

use crate::outcome::{Outcome, median, medians};

pub fn head() -> Result<()> {
    let now = jiff::Timestamp::from_second(SystemClock.now().0)?;
    println!(
        "{} cores, version {}, {now}",
        std::thread::available_parallelism().map_or(0, usize::from),
        env!("CARGO_PKG_VERSION"),
    );
    Ok(())
}

pub fn steady_head() {
    println!("Bare SDK / broker = ratio; CPU is of the SDK's process and of the broker's.\n");
    println!(
        "| connections | | calls a second | p50, ms | p95, ms | p99, ms | CPU a call, µs | broker's memory, MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
}

pub fn steady(connections: usize, is_replay: bool, measured: &[(Outcome, Outcome)]) {
    let bare = medians(&measured.iter().map(|(bare, _)| *bare).collect::<Vec<_>>());
    let broker = medians(
        &measured
            .iter()
            .map(|(_, broker)| *broker)
            .collect::<Vec<_>>(),
    );
    let ratio = |figure: fn(&Outcome) -> f64| {
        median(
            measured
                .iter()
                .map(|(bare, broker)| figure(broker) / figure(bare))
                .collect(),
        )
    };
    let millis = |figure: fn(&Outcome) -> f64| {
        format!(
            "{:.2} / {:.2} = {:.2}",
            figure(&bare) / 1e3,
            figure(&broker) / 1e3,
            ratio(figure)
        )
    };
    println!(
        "| {connections} | {} | {:.0} / {:.0} = {:.2} | {} | {} | {} | {:.0} / {:.0} | {:.0} |",
        if is_replay { "replayed" } else { "fresh" },
        bare.per_second,
        broker.per_second,
        ratio(|outcome| outcome.per_second),
        millis(|outcome| outcome.p50_us),
        millis(|outcome| outcome.p95_us),
        millis(|outcome| outcome.p99_us),
        bare.cpu_us,
        broker.cpu_us,
        broker.resident_mib,
    );
}

pub fn burst(bare: &[Outcome], brokers: &[Outcome]) {
    let measured: Vec<_> = bare.iter().copied().zip(brokers.iter().copied()).collect();
    println!("\n1,000 concurrent requests, two brokers: bare SDK / broker = ratio\n");
    println!("| | p50, ms | p95, ms | p99, ms |");
    println!("|---|---|---|---|");
    let (bare, broker) = (medians(bare), medians(brokers));
    let figures: [fn(&Outcome) -> f64; 3] = [|o| o.p50_us, |o| o.p95_us, |o| o.p99_us];
    let cells = figures.map(|figure| {
        let ratio = median(
            measured
                .iter()
                .map(|(bare, broker)| figure(broker) / figure(bare))
                .collect(),
        );
        format!(
            "{:.0} / {:.0} = {ratio:.2}",
            figure(&bare) / 1e3,
            figure(&broker) / 1e3
        )
    });
    println!("| burst | {} |", cells.join(" | "));
}

/// `measured`: the seconds with one request of each caller, and with the same request to both brokers, by round.
pub fn storm(callers: usize, measured: &[(f64, f64)]) {
    let ratio = median(measured.iter().map(|(once, twice)| twice / once).collect());
    let millis =
        |figure: fn(&(f64, f64)) -> f64| median(measured.iter().map(figure).collect()) * 1e3;
    println!(
        "\nRetry storm: {callers} new allocations in {:.0} ms; {callers} callers with the same request to both \
         brokers in {:.0} ms; ratio {ratio:.2}",
        millis(|(once, _)| *once),
        millis(|(_, twice)| *twice),
    );
}

pub fn start(sandboxes: usize, millis: &[f64]) {
    println!(
        "Start to first answer, {sandboxes} sandboxes in the table: {:.0} ms",
        median(millis.to_vec())
    );
}
