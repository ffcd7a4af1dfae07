//! An upper bound of the brokers' clocks.

use std::time::Duration;

use super::{
    super::event::{AllocateAnswer, Event, EventKind, ReplaceAnswer},
    Terms,
};

/// An upper bound of the time that the brokers' clocks show, from the first moment at which the history shows it.
/// Between two steps the clocks run at normal speed.
pub(super) struct Clock {
    steps: Vec<(Duration, i64)>,
    error: i64,
}

impl Clock {
    pub(super) fn of(history: &[Event], terms: Terms) -> Self {
        // A new allocation was stamped after its request began.
        let shown = |event: &Event| match &event.kind {
            EventKind::Allocate {
                answer: AllocateAnswer::New(grant),
                ..
            }
            | EventKind::Replace {
                answer: ReplaceAnswer::New(grant),
                ..
            } => Some((event.began, grant.allocated_at)),
            EventKind::ClockAdvanced { from, .. } => Some((event.began, *from)),
            _ => None,
        };
        let first = history.iter().filter_map(shown).min();
        let mut clock = Self {
            steps: first.into_iter().collect(),
            error: terms.clock_error,
        };
        let Some((anchor, _)) = first else {
            return clock;
        };
        let mut settings: Vec<_> = history
            .iter()
            .filter_map(|event| match event.kind {
                EventKind::ClockAdvanced { from, to } if event.ended >= anchor => {
                    Some((event.began.max(anchor), from, to))
                }
                _ => None,
            })
            .collect();
        settings.sort_unstable();
        for (at, from, to) in settings {
            let (since, time) = clock.steps[clock.steps.len() - 1];
            let passed = seconds(at.saturating_sub(since));
            let time = (time + passed + (to - from).max(0)).max(to);
            clock.steps.push((at, time));
        }
        clock
    }

    /// The first moment at which a broker's clock may be beyond `deadline`.
    pub(super) fn may_pass(&self, deadline: i64) -> Duration {
        let later = self
            .steps
            .partition_point(|(_, time)| time + self.error <= deadline);
        let Some(last) = later.checked_sub(1) else {
            return Duration::ZERO;
        };
        let (at, time) = self.steps[last];
        let rest = u64::try_from(deadline - time - self.error).unwrap_or(0);
        let by_itself = at.saturating_add(Duration::from_secs(rest));
        self.steps
            .get(later)
            .map_or(by_itself, |(next, _)| by_itself.min(*next))
    }
}

/// Returns a lower bound of the time that the brokers' clocks show at a moment, in Unix seconds.
pub(super) fn at_least(history: &[Event], moment: Duration, terms: Terms) -> Option<i64> {
    let shown = |event: &Event| match event.kind {
        EventKind::ClockAdvanced { to, .. } if event.ended <= moment => {
            let passed = moment.saturating_sub(event.ended).as_secs();
            Some(to + i64::try_from(passed).unwrap_or(0) - terms.clock_error)
        }
        _ => None,
    };
    history.iter().filter_map(shown).max()
}

/// Whole seconds, rounded up.
fn seconds(passed: Duration) -> i64 {
    i64::try_from(passed.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}
