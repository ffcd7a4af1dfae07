//! The state of the pool, as `admin stats` and `admin watch` show it.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{pauses::Pause, run_record::Run};
use crate::{
    cli::output::{
        Cell, Table,
        time::{duration, relative, show, with_times},
    },
    clock::UnixSeconds,
    domain::Status,
};

/// The overview of the API.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Overview {
    pub(super) at: UnixSeconds,
    counted_at: Option<UnixSeconds>,
    pub(super) counts: BTreeMap<String, u64>,
    allocations_last_hour: u64,
    releases_last_hour: u64,
    lasts_for_seconds: Option<u64>,
    jobs: Vec<JobState>,
    breakers: Vec<Breaker>,
    pub(super) pauses: Vec<Pause>,
    labs: Vec<LabUse>,
    policy: Policy,
    pools: Vec<Pool>,
    pub(super) warnings: Vec<Warning>,
}

#[derive(Clone, Debug, Deserialize)]
struct JobState {
    job: String,
    is_off: bool,
    next_due_at: Option<UnixSeconds>,
    is_overdue: bool,
    last_success_at: Option<UnixSeconds>,
    last_run: Option<Run>,
}

#[derive(Clone, Debug, Deserialize)]
struct Breaker {
    name: String,
    state: String,
}

#[derive(Clone, Debug, Deserialize)]
struct LabUse {
    lab: String,
    held: u64,
    max_held: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
struct Policy {
    version: u32,
    author: Option<String>,
    at: Option<UnixSeconds>,
    fault: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Pool {
    name_prefix: String,
    state: String,
    reason: Option<String>,
    target: u64,
    available: u64,
    provisioning: u64,
    under_way: u64,
    allocated: u64,
    total: u64,
    max_total: Option<u64>,
}

/// A condition that needs attention.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Warning {
    pub(super) code: String,
    message: String,
}

impl Overview {
    /// Returns the overview as lines of at most `width`.
    pub(super) fn lines(&self, width: Option<usize>) -> Vec<String> {
        let parts = [
            self.alerts(width),
            self.counts(width),
            self.pools(width),
            self.labs(width),
            self.jobs(width),
        ];
        let parts: Vec<_> = parts
            .into_iter()
            .filter(|lines| !lines.is_empty())
            .collect();
        parts.join(&String::new())
    }

    /// Returns the lines of the warnings, the pauses, and the circuit breakers that are not closed.
    fn alerts(&self, width: Option<usize>) -> Vec<String> {
        let warnings = self.warnings.iter().map(|warning| &warning.message);
        let warnings = warnings.map(|message| Cell::warning(&format!("! {}", with_times(message))));
        let pauses = self
            .pauses
            .iter()
            .map(|pause| Cell::from(pause.sentence(self.at)));
        let breakers = self
            .breakers
            .iter()
            .filter(|breaker| breaker.state != "closed");
        let breakers = breakers.map(|Breaker { name, state }| {
            Cell::from(format!(
                "circuit breaker {name}: {}",
                state.replace('_', "-")
            ))
        });
        let cells = warnings.chain(pauses).chain(breakers);
        cells.map(|cell| cell.line(width)).collect()
    }

    fn counts(&self, width: Option<usize>) -> Vec<String> {
        let count = |name: &str| self.counts.get(name).copied().unwrap_or_default();
        let mut table = Table::new(&["STATUS", "SANDBOXES"]);
        for status in Status::ALL.map(Status::as_str) {
            table.row([Cell::status(status), count(status).into()]);
        }
        table.row([Cell::bold("total"), count("total").into()]);
        if count("unreadable") > 0 {
            table.row([Cell::status("unreadable"), count("unreadable").into()]);
        }
        let mut lines = table.take_lines(width);
        lines.push(String::new());
        let lasts = self.lasts_for_seconds.map_or_else(String::new, |seconds| {
            let lasts = duration(Duration::from_secs(seconds));
            format!("; at this rate, the available sandboxes last for {lasts}")
        });
        // The broker answers from its last count, which may be older than what an operator has just done.
        let counted = self
            .counted_at
            .filter(|counted_at| *counted_at < self.at)
            .map_or_else(String::new, |counted_at| {
                format!(" Counted {}.", relative(counted_at, self.at))
            });
        let flow = format!(
            "In the last hour {} allocations and {} releases{lasts}.{counted}",
            self.allocations_last_hour, self.releases_last_hour
        );
        lines.push(Cell::from(flow).line(width));
        lines.push(self.policy(width));
        lines
    }

    fn policy(&self, width: Option<usize>) -> String {
        let Policy {
            version,
            author,
            at,
            fault,
        } = &self.policy;
        if let Some(fault) = fault {
            return Cell::warning(&format!("The policy cannot be read: {fault}")).line(width);
        }
        let text = match (author, at) {
            (Some(author), Some(at)) => {
                format!(
                    "Policy: version {version} by {author}, {}.",
                    show(*at, self.at)
                )
            }
            _ => "Policy: none; the terms of the environment are in force.".to_owned(),
        };
        Cell::from(text).line(width)
    }

    fn pools(&self, width: Option<usize>) -> Vec<String> {
        let mut table = Table::new(&[
            "POOL",
            "STATE",
            "TARGET",
            "AVAILABLE",
            "WARMING UP",
            "ALLOCATED",
            "TOTAL",
            "NOTE",
        ]);
        for pool in &self.pools {
            let total = match pool.max_total {
                Some(max) => format!("{} of {max}", pool.total),
                None => pool.total.to_string(),
            };
            table.row([
                pool.name_prefix.as_str().into(),
                Cell::status(&pool.state),
                pool.target.into(),
                pool.available.into(),
                (pool.provisioning + pool.under_way).into(),
                pool.allocated.into(),
                total.into(),
                pool.reason.as_deref().map(with_times).into(),
            ]);
        }
        table.take_lines(width)
    }

    fn labs(&self, width: Option<usize>) -> Vec<String> {
        let mut table = Table::new(&["LAB", "HELD", "QUOTA"]);
        for lab in &self.labs {
            let quota = lab.max_held.map(|max| max.to_string());
            table.row([lab.lab.as_str().into(), lab.held.into(), Cell::from(quota)]);
        }
        table.take_lines(width)
    }

    fn jobs(&self, width: Option<usize>) -> Vec<String> {
        let mut table = Table::new(&["JOB", "LAST RUN", "SUCCEEDED", "NEXT", "RESULT"]);
        for job in &self.jobs {
            let ago = |at: Option<UnixSeconds>| at.map(|at| relative(at, self.at));
            let run = job.last_run.as_ref();
            let state = match run {
                _ if job.is_off => Cell::status("off"),
                _ if job.is_overdue => Cell::status("overdue"),
                Some(run) => Cell::status(&run.state),
                None => Cell::default(),
            };
            table.row([
                job.job.as_str().into(),
                state,
                Cell::from(ago(job.last_success_at)),
                Cell::from(ago(job.next_due_at)),
                Cell::from(run.map(Run::result)),
            ]);
        }
        table.take_lines(width)
    }

    /// Returns the counts, pauses and warnings as one line, for the output of changes.
    pub(super) fn summary(&self) -> String {
        let counts = Status::ALL.map(Status::as_str).map(|status| {
            let count = self.counts.get(status).copied().unwrap_or_default();
            format!("{status} {count}")
        });
        let pauses = self
            .pauses
            .iter()
            .map(|pause| format!("paused: {}", pause.activity));
        let warnings = self.warnings.iter().map(|warning| warning.code.clone());
        let parts: Vec<_> = counts.into_iter().chain(pauses).chain(warnings).collect();
        parts.join(", ")
    }
}
