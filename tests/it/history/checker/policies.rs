//! The policies that brokers may obey.

use std::time::Duration;

use super::{
    super::event::{Event, EventKind, LabQuota},
    Terms,
};

/// A policy that was set, or may have been.
struct Policy<'a> {
    began: Duration,
    /// From then on no broker obeys it.
    until: Duration,
    labs: &'a [LabQuota],
}

/// The policies of a history.
pub(super) struct Policies<'a> {
    all: Vec<Policy<'a>>,
    /// Until then a broker may obey no policy.
    without_until: Duration,
}

impl<'a> Policies<'a> {
    pub(super) fn of(history: &'a [Event], terms: Terms) -> Self {
        let set = history.iter().filter_map(|event| match &event.kind {
            EventKind::PolicySet { labs, is_done } => Some((event, labs.as_slice(), *is_done)),
            _ => None,
        });
        let set: Vec<_> = set.collect();
        let obeyed = history.iter().filter_map(|event| {
            matches!(event.kind, EventKind::PolicyObeyed).then_some(event.ended)
        });
        let obeyed: Vec<_> = obeyed.collect();
        // A policy that failed to be set may have been set, but it cannot displace one for certain.
        let displaced_after = |ended: Option<Duration>| {
            set.iter()
                .filter(|(event, _, is_done)| {
                    *is_done && ended.is_none_or(|ended| ended < event.began)
                })
                .map(|(event, ..)| {
                    let lag = event.ended.saturating_add(terms.policy_lag);
                    let known = obeyed.iter().filter(|at| **at > event.ended).min();
                    known.map_or(lag, |at| lag.min(*at))
                })
                .min()
                .unwrap_or(Duration::MAX)
        };
        let all = set.iter().map(|(event, labs, _)| Policy {
            began: event.began,
            until: displaced_after(Some(event.ended)),
            labs,
        });
        Self {
            all: all.collect(),
            without_until: displaced_after(None),
        }
    }

    /// Returns the policies that a broker may obey at some moment between two.
    fn between(
        &self,
        from: Duration,
        until: Duration,
        lab: &str,
    ) -> impl Iterator<Item = Option<&'a LabQuota>> {
        let is_obeyed = move |policy: &&Policy<'a>| policy.began <= until && from <= policy.until;
        let of_lab = move |policy: &Policy<'a>| policy.labs.iter().find(|it| it.lab == lab);
        let without = (from <= self.without_until).then_some(None);
        without
            .into_iter()
            .chain(self.all.iter().filter(is_obeyed).map(of_lab))
    }

    /// Returns the quotas of a lab, `None` for no quota, that a broker may obey at some moment between two.
    pub(super) fn quotas(
        &self,
        from: Duration,
        until: Duration,
        lab: &str,
    ) -> impl Iterator<Item = Option<usize>> {
        self.between(from, until, lab)
            .map(|terms| terms.and_then(|terms| terms.max_held))
    }

    /// Returns the largest number of replacements that a broker may permit a lab at some moment between two.
    pub(super) fn replacements(&self, from: Duration, until: Duration, lab: &str) -> Option<usize> {
        /// The maximum without a policy.
        const DEFAULT: usize = 3;
        let all = self.between(from, until, lab);
        all.map(|terms| terms.map_or(DEFAULT, |terms| terms.max_replacements))
            .max()
    }
}
