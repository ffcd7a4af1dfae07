//! A broker process: its start, its API and its memory.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use reqwest::{Method, Response};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const START_LIMIT: Duration = Duration::from_mins(2);
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Long enough for a first sync, the longest job.
const REQUEST_LIMIT: Duration = Duration::from_mins(10);

/// The settings of a broker process.
pub struct Settings {
    /// The broker binary.
    pub broker: PathBuf,
    pub directory: PathBuf,
    pub variables: Vec<(&'static str, String)>,
}

pub struct Broker {
    child: Child,
    base: String,
    http: reqwest::Client,
}

impl Broker {
    /// Starts `serve` and waits until `/readyz` succeeds. Returns the time that this took, too.
    pub async fn start(settings: &Settings) -> Result<(Self, Duration)> {
        let log = settings.directory.join("log");
        let began = Instant::now();
        let child = Command::new(&settings.broker)
            .arg("serve")
            .env_clear()
            .envs(settings.variables.iter().map(|(name, value)| (name, value)))
            .env("LOG_FORMAT", "json")
            .env("PORT", "0")
            .current_dir(&settings.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(REQUEST_LIMIT)
            .build()?;
        let mut broker = Self {
            child,
            base: String::new(),
            http,
        };
        let address = broker.address(&log, began).await?;
        broker.base = format!("http://{address}/v1");
        let ready = format!("http://{address}/readyz");
        loop {
            let answer = broker.http.get(&ready).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            if broker.child.try_wait()?.is_some() || began.elapsed() > START_LIMIT {
                bail!("the broker is not ready:\n{}", fs::read_to_string(&log)?);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok((broker, began.elapsed()))
    }

    async fn address(&mut self, log: &Path, began: Instant) -> Result<String> {
        loop {
            let text = fs::read_to_string(log)?;
            let address = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find_map(|event| event["address"].as_str().map(str::to_owned));
            if let Some(address) = address {
                return Ok(address);
            }
            if self.child.try_wait()?.is_some() || began.elapsed() > START_LIMIT {
                bail!("the broker did not start:\n{text}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub async fn as_admin(&self, method: Method, path: &str) -> Result<Response> {
        let request = self.http.request(method, format!("{}{path}", self.base));
        Ok(request.bearer_auth("dev-admin-token").send().await?)
    }

    pub async fn as_caller(&self, method: Method, path: &str, caller: &str) -> Result<Response> {
        let request = self.http.request(method, format!("{}{path}", self.base));
        Ok(request
            .bearer_auth("dev-track-token")
            .header("X-Instruqt-Sandbox-ID", caller)
            .header("X-Instruqt-Track-ID", "cloud-security-101")
            .send()
            .await?)
    }

    /// Requests a sandbox whose name begins with `prefix`.
    pub async fn allocate(&self, caller: &str, prefix: &str) -> Result<Response> {
        let request = self
            .http
            .post(format!("{}/allocate", self.base))
            .bearer_auth("dev-track-token")
            .header("X-Instruqt-Sandbox-ID", caller)
            .header("X-Instruqt-Track-ID", "cloud-security-101");
        let request = if prefix.is_empty() {
            request
        } else {
            request.header("X-Sandbox-Name-Prefix", prefix)
        };
        Ok(request.send().await?)
    }

    /// The resident memory, and its peak since the last [`reset_peak`](Self::reset_peak), in MiB.
    pub fn memory(&self) -> Result<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let of = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let text = line.context("no such figure")?.trim();
            Ok(text.trim_end_matches(" kB").parse::<f64>()? / 1024.0)
        };
        Ok((of("VmRSS:")?, of("VmHWM:")?))
    }

    pub fn reset_peak(&self) -> Result<()> {
        // 5 resets the peak: proc_pid_clear_refs(5).
        Ok(fs::write(
            format!("/proc/{}/clear_refs", self.child.id()),
            "5",
        )?)
    }

    pub async fn stop(mut self) -> Result<()> {
        if let Some(pid) = Pid::from_raw(i32::try_from(self.child.id())?) {
            kill_process(pid, Signal::TERM)?;
        }
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > STOP_LIMIT {
                bail!("the broker did not stop");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
