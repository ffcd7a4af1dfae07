//! The start part: the time from the start of the process to its first answer.

use std::{path::Path, time::Instant};

use anyhow::{Result, ensure};

use crate::{broker::Broker, engine::Engine, report, table::Table};

const STARTS: usize = 5;

pub async fn measure(engine: &Engine, program: &Path) -> Result<()> {
    let mut table = Table::create(engine).await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    for sandboxes in [1_000, 20_000] {
        table.grow_to(sandboxes).await?;
        let mut millis = Vec::with_capacity(STARTS);
        for _ in 0..STARTS {
            let began = Instant::now();
            let broker = Broker::start(program, engine, &table.name)?;
            let answer = http.get(format!("{}/readyz", broker.url)).send().await?;
            ensure!(answer.status().is_success(), "not ready");
            millis.push(began.elapsed().as_secs_f64() * 1e3);
        }
        report::start(sandboxes, &millis);
    }
    Ok(())
}
