//! The gauges of the monitor: counts of sandboxes, states of jobs, circuit breakers, pauses and the policy.

use std::collections::BTreeSet;

use prometheus::IntGaugeVec;

use super::{PoolMonitor, State};
use crate::{
    clock::UnixSeconds,
    domain::{Activity, BreakerPhase, CspState, JobName, JobState, LabId, LabUsage},
    jobs::pool_report::PoolReport,
    telemetry::metrics::{gauge, raise},
};

impl PoolMonitor {
    /// Sets the gauges of a count.
    pub(super) fn set_pool_gauges(&self, state: &mut State, report: &PoolReport) {
        let (metrics, snapshot) = (&self.metrics, &report.snapshot);
        let counts = &snapshot.counts;
        metrics.pool_provisioning.set(gauge(counts.provisioning));
        metrics.pool_available.set(gauge(counts.available));
        metrics.pool_expected.set(gauge(report.expected));
        metrics.pool_allocated.set(gauge(counts.allocated));
        metrics
            .pool_pending_deletion
            .set(gauge(counts.pending_deletion));
        metrics.pool_stale.set(gauge(counts.stale));
        metrics
            .pool_deletion_failed
            .set(gauge(counts.deletion_failed));
        metrics.pool_quarantined.set(gauge(counts.quarantined));
        metrics.pool_total.set(gauge(counts.total()));
        set_labs_held(&metrics.lab_held, &mut state.labs, self.context.labs());
        state.pools.report(metrics, &report.pools);
        metrics.pool_unreadable.set(gauge(snapshot.unreadable()));
        metrics.pool_counted.set(snapshot.at.0);
    }

    /// Sets the gauges and counters of a job to the totals of all its runs.
    pub(super) fn set_job_state(&self, job: JobName, state: &JobState, now: UnixSeconds) {
        let metrics = &self.metrics;
        for (gauge, at) in [
            (&metrics.job_last_end, state.ended_at),
            (&metrics.job_last_success, state.succeeded_at),
            (&metrics.job_last_failure, state.failed_at),
            (&metrics.job_last_paused, state.paused_at),
        ] {
            set_time(gauge, job.as_str(), at.and_then(|at| at.if_credible(now)));
        }
        metrics
            .job_deferred
            .with_label_values(&[job.as_str()])
            .set(gauge(state.deferred));
        for (counters, totals) in [
            (&metrics.job_finished, &state.runs),
            (&metrics.job_sandboxes, &state.processed),
        ] {
            for (label, total) in totals {
                raise(
                    &counters.with_label_values(&[job.as_str(), label.as_str()]),
                    *total,
                );
            }
        }
    }

    /// Sets the phases of the breakers, which depend on the time.
    pub(super) fn set_breaker_states(&self, state: CspState) {
        let context = &self.context;
        let (now, longest) = (context.clock.now(), context.jobs.breaker.longest_open());
        for (name, service) in state.services() {
            let current = service.breaker.phase(now, longest);
            for phase in BreakerPhase::ALL {
                self.metrics
                    .breaker_state
                    .with_label_values(&[name, phase.as_str()])
                    .set(i64::from(phase == current));
            }
        }
    }

    /// Sets the gauges of the pauses, which end by themselves.
    pub(super) fn set_pauses(&self) {
        let metrics = &self.metrics;
        for activity in Activity::ALL {
            let (name, pause) = (activity.as_str(), self.context.pauses.of(activity));
            let paused = metrics.paused.with_label_values(&[name]);
            paused.set(i64::from(pause.is_some()));
            let since = pause.as_ref().map(|pause| pause.since);
            set_time(&metrics.pause_since, name, since);
            set_time(
                &metrics.pause_until,
                name,
                pause.and_then(|pause| pause.until),
            );
        }
    }

    /// Sets the gauges of the policy.
    pub(super) fn set_policy(&self) {
        let (metrics, policy) = (&self.metrics, self.context.policy.status());
        metrics.policy_version.set(gauge(policy.number()));
        let is_readable = policy.fault.is_none();
        metrics.policy_readable.set(i64::from(is_readable));
    }
}

/// Sets the numbers of sandboxes that labs hold; `set` are the labs of the last time. A lab that holds none any more has no
/// series.
fn set_labs_held(gauges: &IntGaugeVec, set: &mut BTreeSet<LabId>, labs: Vec<LabUsage>) {
    let mut gone = std::mem::take(set);
    for LabUsage { lab, held, .. } in labs {
        gauges.with_label_values(&[lab.as_str()]).set(gauge(held));
        gone.remove(&lab);
        set.insert(lab);
    }
    for lab in gone {
        // It fails if there is no series.
        drop(gauges.remove_label_values(&[lab.as_str()]));
    }
}

/// Sets a gauge of times by job or activity. A time that is not known has no series: a job that never succeeded is not
/// overdue.
fn set_time(gauge: &IntGaugeVec, name: &str, at: Option<UnixSeconds>) {
    match at {
        Some(at) => gauge.with_label_values(&[name]).set(at.0),
        // It fails if there is no series.
        None => drop(gauge.remove_label_values(&[name])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn lab_that_holds_nothing_any_more_has_no_series() {
        let metrics = Metrics::new();
        let mut set = BTreeSet::new();
        let usage = |lab: &str, held| LabUsage {
            lab: LabId::stored(lab),
            held,
            max_held: None,
        };
        let mut series = |labs| {
            set_labs_held(&metrics.lab_held, &mut set, labs);
            let text = metrics.text();
            let lines = text
                .lines()
                .filter(|line| line.starts_with("broker_lab_held{"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            series(vec![usage("a", 3), usage("other", 1)]),
            [
                r#"broker_lab_held{lab="a"} 3"#,
                r#"broker_lab_held{lab="other"} 1"#
            ]
        );
        assert_eq!(
            series(vec![usage("a", 2)]),
            [r#"broker_lab_held{lab="a"} 2"#]
        );
        assert!(series(Vec::new()).is_empty());
    }
}
