//! Refill: creates accounts in CSP for the pools of the policy that have fewer sandboxes than their target.
//!
//! Each creation is an item of the companion table before CSP is called, and its name is used for one account. A crash
//! or a lost answer anywhere leaves an item from which a later run goes on: it looks for the account by its name, and
//! adopts it if it is there (`docs/refill.md`).

mod account;
pub(super) mod listing;
mod pass;
mod pool;
mod report;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use self::report::PoolRefill;
pub(crate) use self::report::RefillReport;
use super::{
    JobContext, JobError, RefillMode,
    run::{Job, ReportStatus, Run, elapsed_ms},
};
use crate::{
    domain::{JobName, NamePrefix},
    shared::lock,
};

/// The job.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RefillJob {
    /// Report what the run would do, and do nothing.
    pub plan: bool,
    /// Attempt one creation at once in each pool that CSP's answers have stopped.
    pub probe_stopped: bool,
}

/// The reason why a run creates no more accounts in a pool.
#[derive(Clone, Debug)]
struct Skip {
    reason: String,
    /// Whether the pool is stopped, for later runs too.
    is_stop: bool,
}

/// A run in progress.
struct Refill<'a> {
    run: &'a Run<RefillReport>,
    /// The job; a plan also if the mode is `plan`.
    job: RefillJob,
    began: Instant,
    /// The names of the creations to which this run got no answer. Names are unique over all pools.
    unanswered: HashSet<String>,
    /// The names of the creations to which an earlier run got no answer, and whose accounts CSP does not have.
    absent: HashSet<String>,
    /// The pools that this run skips, because CSP has failed or refused.
    skipped: HashMap<NamePrefix, Skip>,
    /// How many accounts the run may still create or adopt.
    budget: usize,
    /// How many failed creations it may still leave out of that.
    failures: usize,
    /// How many accounts it may still look up.
    look_ups: usize,
    /// Whether the run makes no more calls to CSP.
    is_ended: bool,
    /// Whether CSP has failed, and whether it has answered.
    has_outage: bool,
    has_answers: bool,
    /// The pools of the last pass, with the work of all passes.
    pools: Vec<PoolRefill>,
    report: RefillReport,
}

impl Job for RefillJob {
    type Report = RefillReport;

    fn name(&self) -> JobName {
        JobName::Refill
    }

    async fn run_once(&self, run: &Run<RefillReport>) -> Result<RefillReport, JobError> {
        let mut refill = Refill::new(run, *self);
        let ended = refill.run_passes().await;
        refill.adapt_pace();
        let mut report = refill.report;
        report.status = ReportStatus::of_run(!run.is_stopped());
        report.duration_ms = elapsed_ms(refill.began);
        run.progress(&report);
        ended?;
        Ok(report)
    }
}

impl<'a> Refill<'a> {
    fn new(run: &'a Run<RefillReport>, job: RefillJob) -> Self {
        let context = run.context();
        let config = &context.jobs.refill;
        let plan = job.plan || config.mode != RefillMode::On;
        let budget = lock(&context.pace).of(config.pace).batch;
        Self {
            run,
            job: RefillJob { plan, ..job },
            began: Instant::now(),
            unanswered: HashSet::new(),
            absent: HashSet::new(),
            skipped: HashMap::new(),
            budget,
            failures: config.pace.batch,
            look_ups: budget,
            is_ended: false,
            has_outage: false,
            has_answers: false,
            pools: Vec::new(),
            report: RefillReport {
                plan,
                ..RefillReport::default()
            },
        }
    }

    fn context(&self) -> &'a JobContext {
        self.run.context()
    }

    /// Whether the run has to end.
    fn is_over(&self) -> bool {
        self.is_ended || self.run.is_stopped()
    }

    /// Ends the run: the rest is left to a later one.
    fn end(&mut self, reason: String) {
        self.is_ended = true;
        self.report.stopped = Some(reason);
    }

    /// Makes a pass over the pools. If there are creations to which an earlier run got no answer, it then waits until no
    /// request of that run can be on its way any more, looks up their accounts, and makes another pass.
    ///
    /// All of them are looked up before any is requested again: the account of another one may be all that is wanted.
    async fn run_passes(&mut self) -> Result<(), JobError> {
        let has_unanswered = self.pass(true).await?;
        if !has_unanswered || self.job.plan || self.is_over() {
            return Ok(());
        }
        let settle = self.context().jobs.refill.settle;
        let rest = settle.saturating_sub(self.began.elapsed());
        self.run.pause(rest).await;
        if self.is_over() {
            return Ok(());
        }
        self.look_up_unanswered().await?;
        self.pass(false).await.map(drop)
    }

    /// Waits between two creations.
    async fn pause_between(&self) {
        let delay = self.context().jobs.refill.pace.item_delay;
        if delay > Duration::ZERO {
            self.run.pause(delay).await;
        }
    }

    /// Reports the pools of a pass, with the work of the passes before it.
    fn report_pools(&mut self, mut pools: Vec<PoolRefill>) {
        for pool in &mut pools {
            let earlier = self
                .pools
                .iter()
                .find(|it| it.name_prefix == pool.name_prefix);
            if let Some(earlier) = earlier {
                pool.creations += earlier.creations;
                pool.look_ups += earlier.look_ups;
                pool.drops += earlier.drops;
            }
        }
        self.report.set_pools(pools.clone());
        self.pools = pools;
    }

    /// Slows down the pace of all jobs if CSP has failed, and speeds it up if it has only answered.
    fn adapt_pace(&self) {
        let mut pace = lock(&self.context().pace);
        if self.has_outage {
            pace.slow_down();
        } else if self.has_answers {
            pace.speed_up();
        }
    }
}
