//! A batch of checks: the answers of CSP, their consequences for sandboxes, and the writes.
//!
//! A usable account is recorded at once. Any other answer waits for the end of the batch, because only then it is known
//! whether the account is at fault, the user, or CSP.

use std::{collections::HashSet, time::Duration};

use serde_json::json;

use super::{
    CheckReport,
    answer::Answer,
    queue::{Sandboxes, is_recheck},
};
use crate::{
    csp::{CspError, session::Session, throttle::PaceConfig},
    domain::{
        AuditAction, AuditRecord, AuditTarget, Author, Candidate, CheckRules, Observation,
        Readiness, Reason, Sandbox, Status, Verdict,
    },
    jobs::{JobContext, JobError, run::Run, sync::exceeds},
    shared::lock,
    store::{Change, CheckResult, StoreError},
    telemetry::chain,
};

/// The longest pause requested by CSP that a run waits for; for a longer one it ends.
pub(super) const LONGEST_REQUESTED_PAUSE: Duration = Duration::from_mins(1);

/// The evidence of a run about CSP and the user.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence {
    /// CSP has answered for an account, so where it fails for a new one, that account is at fault.
    was_answered: bool,
    /// CSP has let the user into an account, so a denial concerns the account.
    was_admitted: bool,
    /// An account was found usable.
    found_usable: bool,
}

/// The checks of a run.
#[derive(Debug)]
pub(super) struct Checks<'a> {
    run: &'a Run<CheckReport>,
    context: &'a JobContext,
    rules: CheckRules,
    pub(super) session: Session,
    pub(super) report: CheckReport,
    /// The number of available sandboxes at the start.
    available: usize,
    /// How many of them this run has set aside.
    set_aside: usize,
    /// Whether a known account was tried because CSP has failed for all others.
    was_tried: bool,
    evidence: Evidence,
}

impl<'a> Checks<'a> {
    pub(super) fn new(run: &'a Run<CheckReport>, report: CheckReport, available: usize) -> Self {
        let context = run.context();
        Self {
            run,
            context,
            rules: context.jobs.check.rules(),
            session: context.check_sessions.session(),
            report,
            available,
            set_aside: 0,
            was_tried: false,
            evidence: Evidence::default(),
        }
    }

    /// Checks the accounts of one batch, and records the answers. Returns the pause that CSP requests.
    pub(super) async fn check_batch(
        &mut self,
        queue: &mut Sandboxes,
        pace: PaceConfig,
    ) -> Result<Option<Duration>, JobError> {
        let mut open = Vec::new();
        let (mut has_outage, mut requested_pause) = (false, None);
        for checked in 0..pace.batch {
            // The breaker stays open during a probe.
            let is_over = self.run.is_stopped() || self.context.csp_breaker.is_open();
            if is_over && checked > 0 {
                break;
            }
            let Some(sandbox) = queue.pop_front() else {
                break;
            };
            let answer = self.check(&sandbox).await;
            match &answer {
                Answer::UserRejected(_) => {}
                answer if answer.outage().is_some() => has_outage = true,
                _ => self.evidence.was_answered = true,
            }
            match answer {
                Answer::UserRejected(error) => return Err(error.into()),
                Answer::Observed(Observation::Usable) => {
                    self.evidence.found_usable = true;
                    self.evidence.was_admitted = true;
                    self.observe(sandbox, &Observation::Usable).await?;
                }
                Answer::Observed(observation) => {
                    self.evidence.was_admitted = true;
                    open.push((sandbox, Answer::Observed(observation)));
                }
                Answer::RateLimited(error) => {
                    requested_pause = Some(error.retry_after().unwrap_or_default());
                    open.push((sandbox, Answer::RateLimited(error)));
                    break;
                }
                answer => open.push((sandbox, answer)),
            }
            self.run.pause(pace.item_delay).await;
        }
        self.record_rest(open).await?;
        let mut pace = lock(&self.context.pace);
        if has_outage {
            pace.slow_down();
        } else {
            pace.speed_up();
        }
        Ok(requested_pause)
    }

    /// Checks an account, and reports the call to the circuit breaker.
    async fn check(&self, sandbox: &Sandbox) -> Answer {
        let groups = self.session.groups(&sandbox.account.external_id).await;
        let breaker = &self.context.csp_breaker;
        match &groups {
            // The user or the id is at fault, not CSP.
            Err(CspError::Unauthorized { .. } | CspError::InvalidId { .. }) => {}
            Err(error) if error.is_outage() => {
                tracing::warn!(
                    sandbox_id = sandbox.id().as_str(),
                    cause = chain(error),
                    "account could not be checked"
                );
                breaker.failed(error.retry_after());
            }
            _ => breaker.succeeded(),
        }
        Answer::of(groups, sandbox.status)
    }

    /// Records the answers of a batch, other than that an account is usable.
    async fn record_rest(&mut self, open: Vec<(Sandbox, Answer)>) -> Result<(), JobError> {
        let mut denials_count = self.evidence.was_admitted;
        for (sandbox, answer) in open {
            match answer {
                Answer::Observed(observation) => self.observe(sandbox, &observation).await?,
                Answer::Denied(error) => {
                    denials_count = denials_count || self.user_is_admitted(&sandbox).await?;
                    if denials_count {
                        let broken = Observation::Broken(chain(&error));
                        self.observe(sandbox, &broken).await?;
                    } else {
                        self.postpone(sandbox, None).await?;
                    }
                }
                Answer::Failed(error)
                    if sandbox.status == Status::Provisioning
                        && self.csp_answers_others(&sandbox).await? =>
                {
                    let not_yet = Observation::NotYet(chain(&error));
                    self.observe(sandbox, &not_yet).await?;
                }
                Answer::Failed(error) | Answer::RateLimited(error) => {
                    self.postpone(sandbox, error.retry_after()).await?;
                }
                Answer::UserRejected(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Checks whether CSP lets the user into another account, if it has denied all so far. Returns `false` if that is not
    /// known.
    ///
    /// # Errors
    /// [`JobError::Csp`] if CSP denies the user.
    async fn user_is_admitted(&mut self, denied: &Sandbox) -> Result<bool, JobError> {
        // Without a known account, the denied one itself.
        let known = self.known_account(denied).await?;
        let account = known.as_ref().unwrap_or(denied);
        match self.enter(account).await {
            Err(error @ CspError::Unauthorized { .. }) => Err(error.into()),
            Err(error) if error.is_outage() => Ok(false),
            _ => {
                self.evidence.was_admitted = true;
                Ok(true)
            }
        }
    }

    /// Returns whether CSP answers for other accounts than one for which it has failed. If it has not answered yet, a known
    /// account is tried, once in a run.
    async fn csp_answers_others(&mut self, failed: &Sandbox) -> Result<bool, StoreError> {
        let may_try = !self.was_tried && !self.context.csp_breaker.is_open();
        if !self.evidence.was_answered && may_try {
            self.was_tried = true;
            if let Some(known) = self.known_account(failed).await? {
                self.evidence.was_answered = self.enter(&known).await.is_ok();
            }
        }
        Ok(self.evidence.was_answered)
    }

    /// Returns an available sandbox whose account is most likely usable: the one that was checked last.
    async fn known_account(&self, other_than: &Sandbox) -> Result<Option<Sandbox>, StoreError> {
        let available = self.context.store.in_status(Status::Available).await?;
        let sound = available
            .sandboxes
            .into_iter()
            .filter(|one| one.id() != other_than.id() && one.readiness.failures == 0);
        Ok(sound.max_by_key(|one| one.readiness.checked_at))
    }

    /// Enters an account as the user, and reports the call to the circuit breaker.
    async fn enter(&self, sandbox: &Sandbox) -> Result<(), CspError> {
        let external_id = &sandbox.account.external_id;
        let entered = self.session.check_user(external_id).await;
        let breaker = &self.context.csp_breaker;
        match &entered {
            Ok(()) => breaker.succeeded(),
            Err(error) if error.is_outage() => breaker.failed(error.retry_after()),
            Err(_) => {}
        }
        entered
    }

    /// Records an observation of an account.
    async fn observe(
        &mut self,
        sandbox: Sandbox,
        observation: &Observation,
    ) -> Result<(), StoreError> {
        let now = self.context.clock.now();
        let (mut verdict, readiness) = sandbox.judge(observation, now, &self.rules);
        if verdict == Verdict::Quarantine
            && is_recheck(&sandbox)
            && let Some(reason) = self.recheck_guard()
        {
            tracing::warn!(
                sandbox_id = sandbox.id().as_str(),
                reason,
                "check guard: an available sandbox is not quarantined"
            );
            self.report.recheck_guard = Some(reason);
            verdict = Verdict::Failed;
        }
        if verdict == Verdict::Quarantine
            && !is_recheck(&sandbox)
            && !self.finds_usable_ones(&sandbox).await?
        {
            let reason = "CSP has found no account usable in this run, not even a known one";
            tracing::warn!(
                sandbox_id = sandbox.id().as_str(),
                reason,
                "check guard: a new sandbox is not quarantined"
            );
            self.report.recheck_guard = Some(reason.to_owned());
            verdict = Verdict::NotYet;
        }
        let to = match verdict {
            Verdict::Usable => Status::Available,
            Verdict::NotYet | Verdict::Failed => sandbox.status,
            Verdict::Quarantine => Status::Quarantined,
        };
        let quarantine = (verdict == Verdict::Quarantine).then(|| {
            let reason = sandbox.reason_of_check(&readiness, &self.rules);
            let record = self.audit_record(&sandbox, &readiness, reason.clone());
            (reason, record)
        });
        let result = CheckResult {
            sandbox,
            readiness,
            to,
            quarantine,
        };
        if let Some(result) = self.write(result).await? {
            self.count(verdict, &result.sandbox);
        }
        self.run.progress(&self.report);
        Ok(())
    }

    /// Returns whether CSP finds accounts usable in this run: if it has found none yet, a known one. Without a known
    /// account, nothing speaks against CSP and the user.
    async fn finds_usable_ones(&mut self, other_than: &Sandbox) -> Result<bool, StoreError> {
        if !self.evidence.found_usable {
            let Some(known) = self.known_account(other_than).await? else {
                return Ok(true);
            };
            let answer = self.check(&known).await;
            self.evidence.found_usable = matches!(answer, Answer::Observed(Observation::Usable));
        }
        Ok(self.evidence.found_usable)
    }

    /// Returns why no further available sandbox is set aside in this run, if that is so: more likely CSP or the user is at
    /// fault than so many accounts.
    fn recheck_guard(&self) -> Option<String> {
        let fraction = self.context.sync.max_stale_fraction;
        if !self.evidence.found_usable {
            return Some("CSP has found no account usable in this run".to_owned());
        }
        exceeds(self.set_aside + 1, self.available, fraction).then(|| {
            format!(
                "{} of {} available sandboxes were quarantined, and more would exceed MAX_STALE_FRACTION = {fraction}",
                self.set_aside, self.available
            )
        })
    }

    /// Postpones a check that CSP did not answer, so that others come first.
    async fn postpone(
        &mut self,
        sandbox: Sandbox,
        retry_after: Option<Duration>,
    ) -> Result<(), StoreError> {
        self.report.deferred += 1;
        let now = self.context.clock.now();
        let result = CheckResult {
            readiness: sandbox.postponed(retry_after, now, &self.rules),
            to: sandbox.status,
            quarantine: None,
            sandbox,
        };
        self.write(result).await.map(drop)
    }

    /// Writes a result. Returns it, unless the sandbox was changed since it was read.
    async fn write(&self, result: CheckResult) -> Result<Option<CheckResult>, StoreError> {
        let change = [Change::Check(Box::new(result))];
        let hours = self.context.terms.lab_duration_hours;
        let now = self.context.clock.now();
        let fence = Some(self.run.fence());
        let made = self.context.store.apply(fence, &change, hours, now).await?;
        let [Change::Check(result)] = change else {
            return Ok(None);
        };
        Ok((made == [true]).then_some(*result))
    }

    /// Counts a result that was written, and brings the candidate index in line with it.
    fn count(&mut self, verdict: Verdict, sandbox: &Sandbox) {
        let candidates = self.context.refresher.candidates();
        let counter = match verdict {
            Verdict::Usable => &mut self.report.usable,
            Verdict::NotYet => &mut self.report.not_yet,
            Verdict::Failed => &mut self.report.failed,
            Verdict::Quarantine => &mut self.report.quarantined,
        };
        *counter += 1;
        match (verdict, sandbox.status) {
            (Verdict::Usable, Status::Provisioning) => {
                candidates.add(vec![Candidate::from(&sandbox.account)]);
            }
            (Verdict::Quarantine, Status::Available) => {
                self.set_aside += 1;
                candidates.remove(&HashSet::from([sandbox.id().clone()]));
            }
            _ => {}
        }
    }

    /// Returns the audit record of a quarantine.
    fn audit_record(
        &self,
        sandbox: &Sandbox,
        readiness: &Readiness,
        reason: Reason,
    ) -> AuditRecord {
        let at_ms = self.context.clock.now_ms();
        let author = Author::of_run(self.run.id());
        let target = AuditTarget::Sandbox(sandbox.id().clone());
        AuditRecord {
            reason: Some(reason),
            before: Some(sandbox.audit_state()),
            after: Some(json!({
                "status": Status::Quarantined, "check_failures": readiness.failures,
                "unusable_seconds": readiness.unusable_sec,
            })),
            ..AuditRecord::done(at_ms, author, AuditAction::Quarantine, target)
        }
    }
}
