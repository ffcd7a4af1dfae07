//! Broker processes, loaded by `wrk`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tempfile::TempDir;

use crate::{
    bare::PREPARING_CONNECTIONS, engine::Engine, outcome::Outcome, process::Usage, table::variables,
};

pub const TRACK_TOKEN: &str = "dev-track-token";
pub const CALLER: &str = "X-Instruqt-Sandbox-ID";

/// A broker process with its defaults: it logs every request.
pub struct Broker {
    child: Child,
    directory: TempDir,
    http: reqwest::Client,
    pub url: String,
}

impl Broker {
    pub fn start(program: &Path, engine: &Engine, table: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut child = Command::new(program)
            .arg("serve")
            .env_clear()
            .envs(variables(engine, table))
            .env("LOG_FORMAT", "json")
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("the broker does not start")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let mut log = BufReader::new(stderr);
        let address = loop {
            let mut line = String::new();
            if log.read_line(&mut line)? == 0 {
                bail!("the broker exited before it listened");
            }
            let event: serde_json::Value = serde_json::from_str(&line)?;
            if event["message"] == "listening" {
                break event["address"].as_str().context("no address")?.to_owned();
            }
        };
        // Without a reader the broker would drop log lines, which costs less than writing them.
        std::thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        Ok(Self {
            child,
            directory,
            http: reqwest::Client::builder().no_proxy().build()?,
            url: format!("http://{address}"),
        })
    }

    /// Waits until the broker is idle: after the start it counts the pool and completes its index of candidates.
    pub async fn settle(&self) {
        const INTERVAL: Duration = Duration::from_millis(200);
        const MOST: usize = 100;
        for _ in 0..MOST {
            let before = self.usage().cpu_seconds;
            tokio::time::sleep(INTERVAL).await;
            if self.usage().cpu_seconds - before < 0.02 {
                return;
            }
        }
    }

    pub fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }

    /// Allocates over `connections` connections with one request at a time each, for callers whose names begin with
    /// `run`. `pairs` has the same meaning as in [`Load`](crate::bare::Load).
    pub async fn load(
        &self,
        connections: usize,
        seconds: u64,
        run: &str,
        pairs: usize,
    ) -> Result<Outcome> {
        stream::iter(0..pairs)
            .map(|pair| self.allocate(format!("{run}-{pair}")))
            .buffer_unordered(PREPARING_CONNECTIONS)
            .try_collect::<()>()
            .await?;
        let warm_up = if pairs > 0 {
            run.to_owned()
        } else {
            format!("{run}-warm-up")
        };
        self.wrk(connections, 1, &warm_up, pairs)?;
        // First the counts: the broker counts the pool for its metrics, which takes CPU time.
        let counts = self.counts().await?;
        let usage = self.usage();
        let (answers, outcome) = self.wrk(connections, seconds, run, pairs)?;
        ensure!(answers > 0.0, "no answer came in time; measure for longer");
        let (usage_after, counts_after) = (self.usage(), self.counts().await?);
        // wrk sees the status only; the broker's counters show that every answer was of the measured kind.
        let kind = if pairs > 0 { "idempotent" } else { "success" };
        for (outcome, count) in &counts_after {
            let more = count - counts.get(outcome).unwrap_or(&0.0);
            let is_expected = if outcome == kind {
                more >= answers
            } else {
                more == 0.0
            };
            ensure!(
                is_expected,
                "{answers} answers, but {more} of the kind {outcome}"
            );
        }
        Ok(Outcome {
            cpu_us: (usage_after.cpu_seconds - usage.cpu_seconds) * 1e6 / answers,
            resident_mib: usage_after.resident_mib,
            ..outcome
        })
    }

    async fn allocate(&self, caller: String) -> Result<()> {
        self.http
            .post(format!("{}/v1/allocate", self.url))
            .bearer_auth(TRACK_TOKEN)
            .header(CALLER, caller)
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }

    /// The broker's counters of allocations by outcome.
    async fn counts(&self) -> Result<BTreeMap<String, f64>> {
        let metrics = self
            .http
            .get(format!("{}/metrics", self.url))
            .send()
            .await?
            .text()
            .await?;
        Ok(metrics
            .lines()
            .filter_map(|line| {
                let labelled = line.strip_prefix("broker_allocate_total{outcome=\"")?;
                let (outcome, count) = labelled.split_once("\"} ")?;
                Some((outcome.to_owned(), count.parse().ok()?))
            })
            .collect())
    }

    fn wrk(
        &self,
        connections: usize,
        seconds: u64,
        run: &str,
        pairs: usize,
    ) -> Result<(f64, Outcome)> {
        let script = self.directory.path().join("allocate.lua");
        fs::write(&script, include_str!("allocate.lua"))?;
        let output = Command::new("wrk")
            .args(["-t", "1", "-c", &connections.to_string()])
            .args(["-d", &seconds.to_string(), "--timeout", "30s", "-s"])
            .arg(&script)
            .arg(&self.url)
            .args(["--", TRACK_TOKEN, run, &pairs.to_string()])
            .output()
            .context("wrk is needed: apt-get install wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().last().context("wrk printed nothing")?;
        let report: Report =
            serde_json::from_str(line).with_context(|| format!("wrk printed: {text}"))?;
        ensure!(
            report.faults == 0.0,
            "{} requests failed: {text}",
            report.faults
        );
        Ok((
            report.answers,
            Outcome {
                per_second: report.answers * 1e6 / report.micros,
                p50_us: report.p50,
                p95_us: report.p95,
                p99_us: report.p99,
                ..Outcome::default()
            },
        ))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Deserialize)]
struct Report {
    answers: f64,
    micros: f64,
    p50: f64,
    p95: f64,
    p99: f64,
    faults: f64,
}
