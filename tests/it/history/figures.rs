//! What happened in all, so that nothing passes because nothing happened.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    event::{Allocated, Got, Released, What},
    workload::Epoch,
};
use crate::support::faults::Fault;

#[derive(Default)]
pub(super) struct Figures {
    epochs: usize,
    /// How often each was given, and how long they took in all.
    answers: BTreeMap<String, (usize, Duration)>,
    happened: BTreeMap<&'static str, usize>,
    jobs: BTreeMap<String, usize>,
    injected: BTreeMap<Fault, usize>,
    calls: usize,
    pub(super) duration: Duration,
}

fn answer(what: &What) -> Option<String> {
    Some(match what {
        What::Allocate { answer, .. } => match answer {
            Allocated::New(_) => "allocate: new".to_owned(),
            Allocated::Again(_) => "allocate: again".to_owned(),
            Allocated::NoneLeft => "allocate: none left".to_owned(),
            Allocated::Unknown(why) => format!("allocate: ? {why}"),
        },
        What::Release { answer, .. } => match answer {
            Released::Done { .. } => "release: done".to_owned(),
            Released::Expired => "release: expired".to_owned(),
            Released::NotOwner => "release: not the owner".to_owned(),
            Released::NotFound => "release: not found".to_owned(),
            Released::Unknown(why) => format!("release: ? {why}"),
        },
        What::Get { answer, .. } => match answer {
            Got::Is { status, .. } => format!("get: {status}"),
            Got::NotOwner => "get: not the owner".to_owned(),
            Got::NotFound => "get: not found".to_owned(),
            Got::Unknown(why) => format!("get: ? {why}"),
        },
        _ => return None,
    })
}

fn happening(what: &What) -> Option<&'static str> {
    Some(match what {
        What::AccountMade { .. } => "accounts made",
        What::AccountRenamed { .. } => "accounts renamed",
        What::AccountHidden { .. } => "accounts hidden",
        What::AccountShown { .. } => "accounts shown",
        What::AccountDeleted { .. } => "orders to delete an account",
        What::Killed { .. } => "kills",
        What::Started { .. } => "starts",
        What::Clock { .. } => "clock set forward",
        What::Table { .. } => "tables read",
        _ => return None,
    })
}

impl Figures {
    pub(super) fn add(&mut self, epoch: &Epoch) {
        self.epochs += 1;
        self.calls += epoch.calls;
        self.duration += epoch.duration;
        for (fault, count) in &epoch.injected {
            *self.injected.entry(*fault).or_default() += count;
        }
        for event in &epoch.history {
            if let Some(answer) = answer(&event.what) {
                let (count, took) = self.answers.entry(answer).or_default();
                *count += 1;
                *took += event.ended.saturating_sub(event.began);
            }
            if let Some(happening) = happening(&event.what) {
                *self.happened.entry(happening).or_default() += 1;
            }
            if let What::Job { name, report } = &event.what {
                self.note_job(name, report.as_ref());
            }
        }
    }

    fn note_job(&mut self, name: &str, report: Option<&serde_json::Value>) {
        let word = if report.is_some() {
            "done"
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

    /// Calls of clients.
    pub(super) fn operations(&self) -> usize {
        self.answers.values().map(|(count, _)| count).sum()
    }

    /// What did not happen of all that should: a history shows nothing of what it lacks.
    pub(super) fn missing(&self) -> Vec<String> {
        const ANSWERS: [&str; 13] = [
            "allocate: new",
            "allocate: again",
            "allocate: none left",
            "allocate: ? no answer",
            "allocate: ? out of patience",
            "release: done",
            "release: expired",
            "release: not the owner",
            "release: not found",
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
        const JOBS: [&str; 7] = [
            "sync, inserted",
            "sync, updated",
            "sync, restored",
            "sync, marked_stale",
            "cleanup, deleted",
            "cleanup, deferred",
            "auto-expire, expired",
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
            names(&JOBS, &|name| self.jobs.contains_key(name)),
            names(&faults, &|name| injected.iter().any(|fault| fault == name)),
        ]
        .concat()
    }

    /// Answers that no fault excuses.
    pub(super) fn defects(&self) -> Vec<&String> {
        let answers = self.answers.keys();
        answers.filter(|answer| answer.contains("? 500")).collect()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.duration.as_secs_f64();
        let operations = self.operations();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let rate = operations as f64 / seconds;
        writeln!(
            f,
            "{operations} operations in {} epochs and {seconds:.0} s ({rate:.0}/s), {} calls of the engine",
            self.epochs, self.calls
        )?;
        for (what, (count, took)) in &self.answers {
            let mean = took.as_millis() / *count as u128;
            writeln!(f, "{count:>9} {what} ({mean} ms)")?;
        }
        for (what, count) in &self.happened {
            writeln!(f, "{count:>9} {what}")?;
        }
        for (what, count) in &self.jobs {
            writeln!(f, "{count:>9} {what}")?;
        }
        for (fault, count) in &self.injected {
            writeln!(f, "{count:>9} {fault:?}")?;
        }
        Ok(())
    }
}
