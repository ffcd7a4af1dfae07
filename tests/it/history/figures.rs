//! Statistics of histories, which show that nothing passed for lack of events.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use super::{
    event::{
        ActAnswer, AllocateAnswer, EventKind, ExtendAnswer, GetAnswer, ReleaseAnswer, ReplaceAnswer,
    },
    workload::Epoch,
};
use crate::support::proxy::{Condition, Fault};

#[derive(Default)]
pub(super) struct Figures {
    epochs: usize,
    /// The number of each answer and the total time that they took.
    answers: BTreeMap<String, (usize, Duration)>,
    happened: BTreeMap<&'static str, usize>,
    /// The actions of operators with their answers.
    actions: BTreeMap<String, usize>,
    jobs: BTreeMap<String, usize>,
    injected: BTreeMap<Fault, usize>,
    pub(super) conditions: BTreeSet<Condition>,
    calls: usize,
    pub(super) duration: Duration,
}

fn answer(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::Allocate { answer, .. } => match answer {
            AllocateAnswer::New(_) => "allocate: new".to_owned(),
            AllocateAnswer::Replayed(_) => "allocate: replayed".to_owned(),
            AllocateAnswer::NoneLeft => "allocate: none left".to_owned(),
            AllocateAnswer::LabFull => "allocate: lab full".to_owned(),
            AllocateAnswer::Paused => "allocate: paused".to_owned(),
            AllocateAnswer::Unknown(why) => format!("allocate: ? {why}"),
        },
        EventKind::Release { answer, .. } => match answer {
            ReleaseAnswer::Done { .. } => "release: done".to_owned(),
            ReleaseAnswer::Expired => "release: expired".to_owned(),
            ReleaseAnswer::NotOwner => "release: not the owner".to_owned(),
            ReleaseAnswer::NotFound => "release: not found".to_owned(),
            ReleaseAnswer::Unknown(why) => format!("release: ? {why}"),
        },
        EventKind::Get { answer, .. } => match answer {
            GetAnswer::Found { status, .. } => format!("get: {status}"),
            GetAnswer::NotOwner => "get: not the owner".to_owned(),
            GetAnswer::NotFound => "get: not found".to_owned(),
            GetAnswer::Unknown(why) => format!("get: ? {why}"),
        },
        EventKind::Extend { answer, .. } => match answer {
            ExtendAnswer::Done { .. } => "extend: done".to_owned(),
            ExtendAnswer::Limit => "extend: limit".to_owned(),
            ExtendAnswer::Ended => "extend: ended".to_owned(),
            ExtendAnswer::NotOwner => "extend: not the owner".to_owned(),
            ExtendAnswer::NotFound => "extend: not found".to_owned(),
            ExtendAnswer::Unknown(why) => format!("extend: ? {why}"),
        },
        EventKind::Replace { answer, .. } => match answer {
            ReplaceAnswer::New(_) => "replace: new".to_owned(),
            ReplaceAnswer::Current(_) => "replace: current".to_owned(),
            ReplaceAnswer::NoneLeft => "replace: none left".to_owned(),
            ReplaceAnswer::Limit => "replace: limit".to_owned(),
            ReplaceAnswer::Paused => "replace: paused".to_owned(),
            ReplaceAnswer::Ended => "replace: ended".to_owned(),
            ReplaceAnswer::NotOwner => "replace: not the owner".to_owned(),
            ReplaceAnswer::NotFound => "replace: not found".to_owned(),
            ReplaceAnswer::Unknown(why) => format!("replace: ? {why}"),
        },
        _ => return None,
    })
}

fn happening(kind: &EventKind) -> Option<&'static str> {
    Some(match kind {
        EventKind::AccountCreated { .. } => "accounts created",
        EventKind::AccountOrdered { .. } => "accounts ordered",
        EventKind::AccountRenamed { .. } => "accounts renamed",
        EventKind::AccountHidden { .. } => "accounts hidden",
        EventKind::AccountShown { .. } => "accounts shown",
        EventKind::AccountDeleted { .. } => "accounts deleted",
        EventKind::PauseOrdered { .. } => "pauses",
        EventKind::PolicySet { is_done: true, .. } => "policies",
        EventKind::Killed { .. } => "kills",
        EventKind::Started { .. } => "starts",
        EventKind::ClockAdvanced { .. } => "clock set forward",
        EventKind::Table { .. } => "scans of the table",
        _ => return None,
    })
}

impl Figures {
    pub(super) fn add(&mut self, epoch: &Epoch) {
        self.epochs += 1;
        self.calls += epoch.calls;
        self.duration += epoch.duration;
        self.conditions.extend(epoch.conditions.iter().cloned());
        for (fault, count) in &epoch.injected {
            *self.injected.entry(*fault).or_default() += count;
        }
        for event in &epoch.history {
            if let Some(answer) = answer(&event.kind) {
                let (count, took) = self.answers.entry(answer).or_default();
                *count += 1;
                *took += event.ended.saturating_sub(event.began);
            }
            if let Some(happening) = happening(&event.kind) {
                *self.happened.entry(happening).or_default() += 1;
            }
            if let EventKind::Act { action, answer, .. } = &event.kind {
                let answer = match answer {
                    ActAnswer::Done { .. } => "done".to_owned(),
                    ActAnswer::Refused(code) => code.clone(),
                    ActAnswer::Unknown(why) => format!("? {why}"),
                };
                let name = format!("operator's {action}: {answer}");
                *self.actions.entry(name).or_default() += 1;
            }
            if let EventKind::Job { name, report } = &event.kind {
                self.note_job(name, report.as_ref());
            }
        }
    }

    fn note_job(&mut self, name: &str, report: Option<&serde_json::Value>) {
        let word = if report.is_some() {
            "completed"
        } else {
            "no report"
        };
        *self.jobs.entry(format!("{name}: {word}")).or_default() += 1;
        let counts = report.and_then(serde_json::Value::as_object);
        for (count, value) in counts.into_iter().flatten() {
            let is_count = !matches!(
                count.as_str(),
                "duration_ms" | "grace_period_hours" | "synced"
            );
            if let Some(value) = value.as_u64().filter(|value| *value > 0 && is_count) {
                let job = name.split('?').next().unwrap_or(name);
                *self.jobs.entry(format!("{job}, {count}")).or_default() +=
                    usize::try_from(value).unwrap();
            }
        }
    }

    /// Returns the number of calls of clients.
    pub(super) fn operations(&self) -> usize {
        self.answers.values().map(|(count, _)| count).sum()
    }

    /// Returns the expected events that did not happen.
    pub(super) fn missing(&self) -> Vec<String> {
        const ANSWERS: [&str; 23] = [
            "allocate: new",
            "allocate: replayed",
            "allocate: none left",
            "allocate: paused",
            "allocate: ? no answer",
            "allocate: ? time-out",
            "release: done",
            "release: expired",
            "release: not the owner",
            "release: not found",
            "allocate: lab full",
            "extend: done",
            "extend: limit",
            "extend: ended",
            "extend: not the owner",
            "replace: new",
            "replace: current",
            "replace: none left",
            "replace: limit",
            "get: allocated",
            "get: pending_deletion",
            "get: not the owner",
            "get: not found",
        ];
        const HAPPENED: [&str; 4] = [
            "accounts renamed",
            "accounts hidden",
            "accounts shown",
            "kills",
        ];
        const ACTIONS: [&str; 9] = [
            "operator's release: done",
            "operator's release: SANDBOX_PENDING_DELETION",
            "operator's release-listed: done",
            "operator's release-listed: ALLOCATION_CHANGED",
            "operator's extend: done",
            "operator's quarantine: done",
            "operator's restore: done",
            "operator's restore: HAD_HOLDER",
            "operator's delete: done",
        ];
        const JOBS: [&str; 10] = [
            "sync, inserted",
            "sync, updated",
            "sync, restored",
            "sync, marked_stale",
            "cleanup, deleted",
            "cleanup, deferred",
            "auto-expire, expired",
            "refill, created",
            "check, usable",
            "check, quarantined",
        ];
        let names = |names: &[&str], has: &dyn Fn(&str) -> bool| {
            let missing = names.iter().filter(|name| !has(name));
            missing.map(|name| (*name).to_owned()).collect::<Vec<_>>()
        };
        let faults = Fault::ALL.map(|fault| format!("{fault:?}"));
        let faults: Vec<_> = faults.iter().map(String::as_str).collect();
        let injected: Vec<_> = self
            .injected
            .keys()
            .map(|fault| format!("{fault:?}"))
            .collect();
        [
            names(&ANSWERS, &|name| self.answers.contains_key(name)),
            names(&HAPPENED, &|name| self.happened.contains_key(name)),
            names(&ACTIONS, &|name| self.actions.contains_key(name)),
            names(&JOBS, &|name| self.jobs.contains_key(name)),
            names(&faults, &|name| injected.iter().any(|fault| fault == name)),
        ]
        .concat()
    }

    /// Returns answers that no injected fault explains.
    pub(super) fn defects(&self) -> Vec<&String> {
        let answers = self.answers.keys().chain(self.actions.keys());
        answers.filter(|answer| answer.contains("? 500")).collect()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.duration.as_secs_f64();
        let operations = self.operations();
        #[expect(clippy::cast_precision_loss, reason = "a rounded rate for operators")]
        let rate = operations as f64 / seconds;
        writeln!(
            f,
            "{operations} operations in {} epochs and {seconds:.0} s ({rate:.0}/s), {} calls to the engine",
            self.epochs, self.calls
        )?;
        for (kind, (count, took)) in &self.answers {
            let mean = took.as_millis() / *count as u128;
            writeln!(f, "{count:>9} {kind} ({mean} ms)")?;
        }
        for (kind, count) in &self.happened {
            writeln!(f, "{count:>9} {kind}")?;
        }
        for (kind, count) in &self.actions {
            writeln!(f, "{count:>9} {kind}")?;
        }
        for (kind, count) in &self.jobs {
            writeln!(f, "{count:>9} {kind}")?;
        }
        for (fault, count) in &self.injected {
            writeln!(f, "{count:>9} {fault:?}")?;
        }
        Ok(())
    }
}
