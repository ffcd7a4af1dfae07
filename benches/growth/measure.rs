//! The measurements on a pool of one size.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::{Method, Response};
use sandbox_broker::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::{
    broker::{Broker, Settings},
    csp, load,
    report::{Figure, Figures},
};

/// The longest list of accounts that the broker accepts. Larger pools are written into the table directly.
const LARGEST_SYNC: usize = 200_000;
const ONE_BY_ONE: usize = 300;
const CONCURRENCY: usize = 100;
const CONCURRENT_REQUESTS: usize = 600;
const REPEATS: usize = 5;
/// Longer than an empty scan may answer other requests.
const REFUSAL_PAUSE: Duration = Duration::from_millis(300);
/// The time-out of a search through the whole table.
const SEARCH_LIMIT: Duration = Duration::from_secs(30);

pub struct Pool {
    size: usize,
    settings: Settings,
    broker: Broker,
    filled: Duration,
    _directory: tempfile::TempDir,
}

impl Pool {
    /// A table of `size` available sandboxes, and a broker on it whose pool agrees with the CSP.
    pub async fn open(size: usize, endpoint: Option<&str>, broker: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let settings = Settings {
            broker: broker.to_owned(),
            directory: directory.path().to_owned(),
            variables: variables(size, endpoint, directory.path().join("data")).await?,
        };
        if let Some(endpoint) = endpoint {
            create_table(&settings)?;
            ensure!(
                size <= LARGEST_SYNC,
                "{size} sandboxes are too many for {endpoint}"
            );
        }
        let (broker, _) = Broker::start(&settings).await?;
        let began = Instant::now();
        let broker = if size <= LARGEST_SYNC {
            let report = body(broker.as_admin(Method::POST, "/admin/sync").await?).await?;
            ensure!(report["inserted"] == size, "a first sync: {report}");
            broker
        } else {
            broker.stop().await?;
            fill_embedded(&settings, size).await?;
            Broker::start(&settings).await?.0
        };
        Ok(Self {
            size,
            settings,
            broker,
            filled: began.elapsed(),
            _directory: directory,
        })
    }

    pub async fn measure(mut self) -> Result<Figures> {
        let mut figures = Figures::default();
        let name = if self.size <= LARGEST_SYNC {
            "first sync"
        } else {
            "time to write the pool directly"
        };
        figures.add(name, millis(self.filled));
        if self.size <= LARGEST_SYNC {
            figures.add("first sync: memory", self.peak()?);
        }
        self = self.restart(&mut figures).await?;
        figures.add(
            "memory when ready",
            Figure::Mebibytes(self.broker.memory()?.0),
        );
        self.pages(&mut figures).await?;
        self.allocations(&mut figures).await?;
        figures.add(
            "auto-expire, nothing overdue",
            self.admin(Method::POST, "/admin/auto-expire").await?,
        );
        self.releases(&mut figures).await?;
        figures.add(
            "memory after all that",
            Figure::Mebibytes(self.broker.memory()?.0),
        );
        self.broker.reset_peak()?;
        let began = Instant::now();
        let answer = self.broker.as_admin(Method::POST, "/admin/sync").await?;
        let took = began.elapsed();
        figures.add(
            "sync, nothing changed",
            if answer.status().is_success() {
                millis(took)
            } else {
                Figure::ErrorStatus(answer.status().as_u16())
            },
        );
        figures.add("sync: memory", self.peak()?);
        self.close().await?;
        Ok(figures)
    }

    fn peak(&self) -> Result<Figure> {
        Ok(Figure::Mebibytes(self.broker.memory()?.1))
    }

    async fn restart(mut self, figures: &mut Figures) -> Result<Self> {
        let mut starts = Vec::new();
        for _ in 0..3 {
            self.broker.stop().await?;
            let (broker, took) = Broker::start(&self.settings).await?;
            self.broker = broker;
            starts.push(took);
        }
        figures.add("start until ready", millis(quantile(&mut starts, 0.5)));
        Ok(self)
    }

    async fn pages(&self, figures: &mut Figures) -> Result<()> {
        let middle = format!("SBX#{}", csp::account(self.size / 2).csp_id);
        let cursor = |position: Value| URL_SAFE_NO_PAD.encode(position.to_string());
        let of_table = cursor(json!([middle, "META"]));
        let of_status = cursor(json!([middle, "META", "available", "0"]));
        for (name, path) in [
            ("stats", "/admin/stats".to_owned()),
            (
                "list, first page of 100",
                "/admin/sandboxes?limit=100".to_owned(),
            ),
            (
                "list, a page in the middle",
                format!("/admin/sandboxes?limit=100&cursor={of_table}"),
            ),
            (
                "list by status, first page",
                "/admin/sandboxes?limit=100&status=available".to_owned(),
            ),
            (
                "list by status, in the middle",
                format!("/admin/sandboxes?limit=100&status=available&cursor={of_status}"),
            ),
            (
                "search that finds nothing, one request",
                "/admin/sandboxes?limit=100&q=no-such-text".to_owned(),
            ),
        ] {
            figures.add(name, self.admin(Method::GET, &path).await?);
        }
        let began = Instant::now();
        let (mut requests, mut cursor) = (0_u32, String::new());
        let is_complete = loop {
            let path = format!("/admin/sandboxes?limit=100&q=no-such-text&cursor={cursor}");
            let page = body(self.broker.as_admin(Method::GET, &path).await?).await?;
            requests += 1;
            match page["cursor"].as_str() {
                None => break true,
                Some(_) if began.elapsed() > SEARCH_LIMIT => break false,
                Some(next) => next.clone_into(&mut cursor),
            }
        };
        if is_complete {
            figures.add("the same, to the end", millis(began.elapsed()));
            figures.add("the same, requests", Figure::Count(requests.into()));
        }
        Ok(())
    }

    /// The median time of some requests, or the status of one that failed.
    async fn admin(&self, method: Method, path: &str) -> Result<Figure> {
        let mut took = Vec::new();
        for _ in 0..REPEATS {
            let began = Instant::now();
            let answer = self.broker.as_admin(method.clone(), path).await?;
            let status = answer.status();
            answer.bytes().await?;
            took.push(began.elapsed());
            if !status.is_success() {
                return Ok(Figure::ErrorStatus(status.as_u16()));
            }
        }
        Ok(millis(quantile(&mut took, 0.5)))
    }

    async fn allocations(&self, figures: &mut Figures) -> Result<()> {
        let one = self.allocate_all(0..ONE_BY_ONE, 1).await?;
        add_latencies(
            figures,
            ["allocation, one at a time: p50", "p99 of these"],
            one.1,
        );
        let replays = self.allocate_all(0..ONE_BY_ONE, 1).await?;
        add_latencies(
            figures,
            ["replay, one at a time: p50", "p99 of replays"],
            replays.1,
        );
        let (took, concurrent) = self
            .allocate_all(ONE_BY_ONE..ONE_BY_ONE + CONCURRENT_REQUESTS, CONCURRENCY)
            .await?;
        add_latencies(
            figures,
            ["allocation, 100 concurrent: p50", "p99 of 100 concurrent"],
            concurrent,
        );
        figures.add(
            "rate of 100 concurrent",
            per_second(CONCURRENT_REQUESTS, took),
        );
        let mut refusals = Vec::new();
        for number in 0..3 {
            tokio::time::sleep(REFUSAL_PAUSE).await;
            let began = Instant::now();
            let answer = self
                .broker
                .allocate(&format!("refused-{number}"), "nope-")
                .await?;
            if answer.status() != 409 {
                figures.add(
                    "refusal, prefix without a match",
                    Figure::ErrorStatus(answer.status().as_u16()),
                );
                return Ok(());
            }
            refusals.push(began.elapsed());
        }
        figures.add(
            "refusal, prefix without a match",
            millis(quantile(&mut refusals, 0.5)),
        );
        Ok(())
    }

    async fn allocate_all(
        &self,
        plays: std::ops::Range<usize>,
        concurrency: usize,
    ) -> Result<(Duration, Vec<Duration>)> {
        let began = Instant::now();
        let took = stream::iter(plays)
            .map(|play| async move {
                let began = Instant::now();
                let answer = self.broker.allocate(&format!("play-{play}"), "").await?;
                let took = began.elapsed();
                answer.error_for_status()?;
                Ok::<_, anyhow::Error>(took)
            })
            .buffer_unordered(concurrency)
            .try_collect()
            .await?;
        Ok((began.elapsed(), took))
    }

    async fn releases(&self, figures: &mut Figures) -> Result<()> {
        let plays = ONE_BY_ONE + CONCURRENT_REQUESTS;
        let mut took = stream::iter(0..plays)
            .map(|play| self.release(format!("play-{play}")))
            .buffer_unordered(1)
            .try_collect::<Vec<_>>()
            .await?;
        figures.add(
            "release, one at a time: p50",
            millis(quantile(&mut took, 0.5)),
        );
        let began = Instant::now();
        let report = body(self.broker.as_admin(Method::POST, "/admin/cleanup").await?).await?;
        ensure!(report["deleted"] == plays, "a cleanup: {report}");
        figures.add("cleanup of 900", millis(began.elapsed()));
        Ok(())
    }

    async fn release(&self, caller: String) -> Result<Duration> {
        let answer = self.broker.allocate(&caller, "").await?;
        let allocation = body(answer).await?;
        let id = allocation["sandbox_id"].as_str().context("no sandbox")?;
        let began = Instant::now();
        let path = format!("/sandboxes/{id}/mark-for-deletion");
        let answer = self.broker.as_caller(Method::POST, &path, &caller).await?;
        answer.error_for_status()?;
        Ok(began.elapsed())
    }

    async fn close(self) -> Result<()> {
        self.broker.stop().await?;
        Ok(())
    }
}

fn table_name(size: usize) -> String {
    format!("Growth-{size}-{:08x}", rand::random::<u32>())
}

async fn variables(
    size: usize,
    endpoint: Option<&str>,
    data: PathBuf,
) -> Result<Vec<(&'static str, String)>> {
    let mut variables = vec![
        ("CSP_MODE", "live".to_owned()),
        ("CSP_BASE_URL", csp::serve(size).await?),
        ("CSP_API_TOKEN", "growth".to_owned()),
        // Only requested jobs run.
        ("RUN_JOBS", "false".to_owned()),
        // Without pauses: the pace is a setting, not a property of the broker.
        ("CLEANUP_BATCH_SIZE", "25".to_owned()),
        ("CLEANUP_CONCURRENCY", "25".to_owned()),
        ("CLEANUP_BATCH_DELAY_SEC", "0".to_owned()),
    ];
    match endpoint {
        Some(endpoint) => variables.extend([
            ("STORE", "dynamodb".to_owned()),
            ("DDB_ENDPOINT_URL", endpoint.to_owned()),
            ("DDB_TABLE_NAME", table_name(size)),
        ]),
        None => variables.push(("DATA_DIR", data.to_string_lossy().into_owned())),
    }
    Ok(variables)
}

fn create_table(settings: &Settings) -> Result<()> {
    let status = std::process::Command::new(&settings.broker)
        .args(["table", "create"])
        .env_clear()
        .envs(settings.variables.iter().map(|(name, value)| (name, value)))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()?;
    ensure!(status.success(), "the table cannot be created");
    Ok(())
}

async fn fill_embedded(settings: &Settings, size: usize) -> Result<()> {
    let data = settings.directory.join("data");
    let now = SystemClock.now().0;
    tokio::task::spawn_blocking(move || load::fill(&data, "SandboxPool", size, now)).await?
}

async fn body(answer: Response) -> Result<Value> {
    Ok(answer.error_for_status()?.json().await?)
}

fn millis(took: Duration) -> Figure {
    Figure::Millis(took.as_secs_f64() * 1e3)
}

fn per_second(count: usize, took: Duration) -> Figure {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    Figure::PerSecond(count as f64 / took.as_secs_f64())
}

fn add_latencies(figures: &mut Figures, names: [&'static str; 2], mut took: Vec<Duration>) {
    for (name, part) in names.into_iter().zip([0.5, 0.99]) {
        figures.add(name, millis(quantile(&mut took, part)));
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a few hundred"
)]
fn quantile(took: &mut [Duration], part: f64) -> Duration {
    took.sort_unstable();
    took[((took.len() - 1) as f64 * part).round() as usize]
}
