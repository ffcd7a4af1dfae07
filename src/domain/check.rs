//! Checks of accounts: when one is due, and the consequences of its answer.

#[cfg(test)]
mod tests;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::{Readiness, Reason, Sandbox, Status};
use crate::clock::UnixSeconds;

/// The longest pause between two checks of a broken account.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// No check is postponed for longer: the longest pause that CSP requests.
const LONGEST_POSTPONEMENT: Duration = Duration::from_hours(1);
/// An answer that an account is not usable stands for at most this many intervals before it.
const INTERVALS_OBSERVED: u32 = 2;
/// Rechecks of different accounts follow after different times, from this part of the configured time on.
const EARLIEST_RECHECK: f64 = 0.75;
/// The longest text about an answer, in bytes.
const MAX_ERROR: usize = 300;

/// The rules of checks.
#[derive(Clone, Copy, Debug)]
pub struct CheckRules {
    /// The interval of the job.
    pub interval: Duration,
    /// How long an account may be observed as not usable before its sandbox is quarantined.
    pub provision_timeout: Duration,
    /// How many answers in a row that an account is broken lead to the quarantine of its sandbox.
    pub max_failures: u32,
    /// How long a check of an available sandbox holds.
    pub recheck_after: Duration,
}

/// An observation of an account, from the answer of CSP to a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It can be used.
    Usable,
    /// It cannot be used yet, like one that was created a moment ago. Contains the reason.
    NotYet(String),
    /// It is broken. Contains the reason.
    Broken(String),
}

/// The consequence of an observation for a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is, or becomes, available.
    Usable,
    /// It stays as it is, and waits for its account.
    NotYet,
    /// It stays as it is. Enough further answers of this kind will set it aside.
    Failed,
    /// It is set aside.
    Quarantine,
}

impl Readiness {
    /// Returns these results without those of the checks that found the account not usable, so that checks begin anew.
    #[must_use]
    pub fn begun_anew(&self) -> Self {
        Self {
            usable_at: self.usable_at,
            ..Self::default()
        }
    }
}

impl Sandbox {
    /// Returns whether its account is to be checked at `now`. A time that a wrong clock has put too far ahead counts as
    /// passed.
    #[must_use]
    pub fn is_check_due(&self, now: UnixSeconds, rules: &CheckRules) -> bool {
        if let Some(next) = self.readiness.next_check_at {
            return next.due_in(now, LONGEST_POSTPONEMENT).is_zero();
        }
        let Readiness {
            usable_at,
            checked_at,
            ..
        } = self.readiness;
        match self.status {
            Status::Provisioning => true,
            Status::Available => {
                let last = usable_at.max(checked_at);
                let last = last.and_then(|last| last.if_credible(now));
                last.is_none_or(|last| last + self.recheck_after(rules) <= now)
            }
            _ => false,
        }
    }

    /// Returns after which time its account is checked again, so that accounts that were checked together are not
    /// rechecked together.
    fn recheck_after(&self, rules: &CheckRules) -> Duration {
        let mut hasher = DefaultHasher::new();
        self.id().as_str().hash(&mut hasher);
        #[expect(clippy::cast_precision_loss, reason = "any number up to 1 will do")]
        let place = hasher.finish() as f64 / u64::MAX as f64;
        rules
            .recheck_after
            .mul_f64(EARLIEST_RECHECK + (1.0 - EARLIEST_RECHECK) * place)
    }

    /// Returns its place among those that are checked: new ones before available ones, those whose check has failed last,
    /// and otherwise the one that has waited longest first.
    #[must_use]
    pub fn check_order(&self) -> impl Ord + use<> {
        let Readiness {
            checked_at,
            next_check_at,
            ..
        } = self.readiness;
        let is_new = self.status == Status::Provisioning;
        (!is_new, next_check_at.is_some(), checked_at)
    }

    /// Returns the results of its checks after one that CSP did not answer: only the next check is later.
    #[must_use]
    pub fn postponed(
        &self,
        retry_after: Option<Duration>,
        now: UnixSeconds,
        rules: &CheckRules,
    ) -> Readiness {
        let pause = shortest_pause(rules).max(retry_after.unwrap_or_default());
        Readiness {
            next_check_at: Some(now + pause.min(LONGEST_POSTPONEMENT)),
            ..self.readiness.clone()
        }
    }

    /// Decides the consequence of an observation of its account at `now`. Returns with it the new results of its checks.
    ///
    /// The time for which an account was not usable is that between answers that say so, and between two of them no more
    /// than two intervals: an outage, a pause, or a clock that jumps counts for nothing.
    #[must_use]
    pub fn judge(
        &self,
        observation: &Observation,
        now: UnixSeconds,
        rules: &CheckRules,
    ) -> (Verdict, Readiness) {
        let before = &self.readiness;
        let (error, is_broken) = match observation {
            Observation::Usable => {
                let usable = Readiness {
                    usable_at: before.usable_at.or(Some(now)),
                    checked_at: Some(now),
                    ..Readiness::default()
                };
                return (Verdict::Usable, usable);
            }
            // An account that was usable does not become so again by waiting.
            Observation::NotYet(error) => (error, self.status != Status::Provisioning),
            Observation::Broken(error) => (error, true),
        };
        let failures = if is_broken {
            before.failures.saturating_add(1)
        } else {
            0
        };
        let unusable_sec = before
            .unusable_sec
            .saturating_add(self.observed_sec(now, rules));
        let is_late = self.status == Status::Provisioning
            && u64::from(unusable_sec) >= rules.provision_timeout.as_secs();
        let verdict = if is_late || failures >= rules.max_failures {
            Verdict::Quarantine
        } else if is_broken {
            Verdict::Failed
        } else {
            Verdict::NotYet
        };
        let shortest = shortest_pause(rules);
        let pause = shortest
            .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
            .min(LONGEST_PAUSE.max(shortest));
        let readiness = Readiness {
            usable_at: before.usable_at,
            checked_at: Some(now),
            next_check_at: is_broken.then(|| now + pause),
            failures,
            unusable_sec,
            error: Some(shortened(error)),
        };
        (verdict, readiness)
    }

    /// Returns for how many seconds up to `now` the account was observed as not usable since the last answer.
    fn observed_sec(&self, now: UnixSeconds, rules: &CheckRules) -> u32 {
        let Readiness {
            checked_at: Some(last),
            error: Some(_),
            ..
        } = self.readiness
        else {
            return 0;
        };
        let passed = u64::try_from(now.0.saturating_sub(last.0)).unwrap_or(0);
        let longest = rules.interval.as_secs() * u64::from(INTERVALS_OBSERVED);
        u32::try_from(passed.min(longest)).unwrap_or(u32::MAX)
    }

    /// Returns the reason of the quarantine of a sandbox with these results of its checks: what was observed, how often or
    /// for how long, and when last.
    #[must_use]
    pub fn reason_of_check(&self, after: &Readiness, rules: &CheckRules) -> Reason {
        let error = after.error.as_deref().unwrap_or("it is not usable");
        let last = after.checked_at.unwrap_or_default().iso();
        let span = match after.unusable_sec / 60 {
            1 => "1 minute".to_owned(),
            minutes => format!("{minutes} minutes"),
        };
        let text = if after.failures >= rules.max_failures {
            let failures = after.failures;
            format!(
                "{failures} checks in a row found the account broken, the last one at {last}: {error}"
            )
        } else {
            format!("checks have found the account not usable for {span}, until {last}: {error}")
        };
        Reason::of_job(&text)
    }
}

/// Returns the shortest pause before another check: half an interval, so that the next run finds the account due,
/// although the last one took a while to come to it.
fn shortest_pause(rules: &CheckRules) -> Duration {
    rules.interval / 2
}

fn shortened(error: &str) -> String {
    error[..error.floor_char_boundary(MAX_ERROR)].to_owned()
}
