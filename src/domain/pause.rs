//! Pauses: activities of the broker that an operator has stopped for a while.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use super::Reason;
use crate::clock::UnixSeconds;

/// The longest time from now until the end of a pause, or of a quarantine, that has one. Longer ones are mistakes, such as milliseconds in
/// place of seconds.
pub const LONGEST_PAUSE: Duration = Duration::from_hours(365 * 24);

/// An activity that can be paused.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// New allocations.
    Allocations,
    /// Deletions of sandboxes, from CSP and from the pool's table.
    Deletions,
    /// Syncs with CSP, and checks of accounts.
    Sync,
    /// The retirement of overdue allocations.
    Expiry,
    /// The creation of accounts.
    Refill,
}

impl Activity {
    /// Every activity.
    pub const ALL: [Self; 5] = [
        Self::Allocations,
        Self::Deletions,
        Self::Sync,
        Self::Expiry,
        Self::Refill,
    ];

    /// Returns the name used in the table and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allocations => "allocations",
            Self::Deletions => "deletions",
            Self::Sync => "sync",
            Self::Expiry => "expiry",
            Self::Refill => "refill",
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Activity {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let mut all = Self::ALL.into_iter();
        all.find(|activity| activity.as_str() == name).ok_or(())
    }
}

/// The order of an operator to leave an activity undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The activity.
    pub activity: Activity,
    /// Why, in the words of its author.
    pub reason: Reason,
    /// The name of the principal that set it, or last changed it.
    pub author: Arc<str>,
    /// Since when the activity has been paused. A change of the reason or the end does not change it.
    pub since: UnixSeconds,
    /// When it ends by itself; `None` if an operator has to end it.
    pub until: Option<UnixSeconds>,
}

impl Pause {
    /// Returns whether it has not ended by itself.
    #[must_use]
    pub fn is_in_force(&self, now: UnixSeconds) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Returns this pause in place of `before`: the activity has been paused since that one began.
    #[must_use]
    pub fn replacing(self, before: Option<&Self>) -> Self {
        Self {
            since: before.map_or(self.since, |before| before.since),
            ..self
        }
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            activity,
            reason,
            author,
            since,
            until,
        } = self;
        write!(f, "{activity} paused by {author} since {since}")?;
        if let Some(until) = until {
            write!(f, " until {until}")?;
        }
        write!(f, ": {}", reason.as_str())
    }
}

/// The pauses of all activities, at most one of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses(Vec<Pause>);

impl Pauses {
    /// Returns the pause of an activity if it is in force at `now`.
    #[must_use]
    pub fn of(&self, activity: Activity, now: UnixSeconds) -> Option<&Pause> {
        self.in_force(now).find(|pause| pause.activity == activity)
    }

    /// Returns the pauses in force at `now`, in the order of [`Activity::ALL`].
    pub fn in_force(&self, now: UnixSeconds) -> impl Iterator<Item = &Pause> {
        self.0.iter().filter(move |pause| pause.is_in_force(now))
    }
}

impl FromIterator<Pause> for Pauses {
    fn from_iter<T: IntoIterator<Item = Pause>>(pauses: T) -> Self {
        let mut pauses: Vec<_> = pauses.into_iter().collect();
        pauses.sort_by_key(|pause| pause.activity);
        Self(pauses)
    }
}

/// The reason why a time is not accepted as the end of a pause or quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidEnd {
    /// The pause would never be in force.
    #[error("until is {until}, which has passed: it is {now} now; times are Unix seconds")]
    Passed {
        /// The end.
        until: UnixSeconds,
        /// The current time.
        now: UnixSeconds,
    },
    /// More than [`LONGEST_PAUSE`] ahead.
    #[error(
        "until is {until}, more than 365 days from now; times are Unix seconds, and without an end no until is needed"
    )]
    TooFar {
        /// The end.
        until: UnixSeconds,
    },
}

/// Checks the end of a pause, or of a quarantine, that begins at `now`.
///
/// # Errors
/// [`InvalidEnd`].
pub fn check_end(until: UnixSeconds, now: UnixSeconds) -> Result<(), InvalidEnd> {
    if until <= now {
        Err(InvalidEnd::Passed { until, now })
    } else if until > now + LONGEST_PAUSE {
        Err(InvalidEnd::TooFar { until })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(activity: Activity, until: Option<i64>) -> Pause {
        Pause {
            activity,
            reason: Reason::parse("CSP is being repaired").unwrap(),
            author: "alice".into(),
            since: UnixSeconds(100),
            until: until.map(UnixSeconds),
        }
    }

    #[test]
    fn pause_is_in_force_until_its_end() {
        let pauses: Pauses = [
            pause(Activity::Sync, None),
            pause(Activity::Deletions, Some(200)),
        ]
        .into_iter()
        .collect();
        let at = |now| -> Vec<_> {
            let in_force = pauses.in_force(UnixSeconds(now));
            in_force.map(|pause| pause.activity.as_str()).collect()
        };
        assert_eq!(at(199), ["deletions", "sync"]);
        assert_eq!(at(200), ["sync"]);
        assert!(pauses.of(Activity::Deletions, UnixSeconds(199)).is_some());
        assert!(pauses.of(Activity::Deletions, UnixSeconds(200)).is_none());
        assert!(pauses.of(Activity::Expiry, UnixSeconds(0)).is_none());
    }

    #[test]
    fn end_of_a_pause_lies_ahead_by_at_most_a_year() {
        let now = UnixSeconds(1_774_000_000);
        let year = 365 * 24 * 3600;
        for (until, is_valid) in [
            (now.0 - 1, false),
            (now.0, false),
            (now.0 + 1, true),
            (now.0 + year, true),
            (now.0 + year + 1, false),
            (now.0 * 1000, false),
            (i64::MIN, false),
            (i64::MAX, false),
        ] {
            let checked = check_end(UnixSeconds(until), now);
            assert_eq!(checked.is_ok(), is_valid, "{until}: {checked:?}");
        }
    }

    #[test]
    fn description_names_activity_author_end_and_reason() {
        let text = pause(Activity::Deletions, Some(200)).to_string();
        assert_eq!(
            text,
            "deletions paused by alice since 100 until 200: CSP is being repaired"
        );
    }

    #[test]
    fn every_activity_name_parses_back() {
        for activity in Activity::ALL {
            assert_eq!(activity.as_str().parse(), Ok(activity));
            assert_eq!(serde_json::to_value(activity).unwrap(), activity.as_str());
        }
    }
}
