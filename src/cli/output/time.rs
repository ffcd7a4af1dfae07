//! Times: shown as UTC and relative to now, and read from arguments.

use std::{str::FromStr, time::Duration};

use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};

use crate::clock::UnixSeconds;

/// Returns a time as UTC and relative to `now`: `2026-11-28T10:00:00Z (2 h ago)`.
#[must_use]
pub fn show(at: UnixSeconds, now: UnixSeconds) -> String {
    format!("{} ({})", at.iso(), relative(at, now))
}

/// Returns a time relative to `now`: `2 h ago`, `in 3 d`.
#[must_use]
pub fn relative(at: UnixSeconds, now: UnixSeconds) -> String {
    let span = Duration::from_secs(at.0.abs_diff(now.0));
    match at.0.cmp(&now.0) {
        std::cmp::Ordering::Less => format!("{} ago", duration(span)),
        std::cmp::Ordering::Equal => "now".to_owned(),
        std::cmp::Ordering::Greater => format!("in {}", duration(span)),
    }
}

/// Returns a duration in its largest unit of which there are at least two: `90 s`, `2 min`, `47 h`, `3 d`.
#[must_use]
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let (size, unit) = match seconds {
        0..120 => (1, "s"),
        120..7_200 => (60, "min"),
        7_200..172_800 => (3_600, "h"),
        _ => (86_400, "d"),
    };
    format!("{} {unit}", seconds / size)
}

/// Replaces the Unix seconds in a message of the broker by times in UTC.
#[must_use]
pub fn with_times(message: &str) -> String {
    let is_digit = |char: char| char.is_ascii_digit();
    let parts = message.split_inclusive(|char| !is_digit(char));
    let parts = parts.map(|part| {
        let digits = part.trim_end_matches(|char| !is_digit(char));
        match digits.parse() {
            // From 2001 to 2033.
            Ok(seconds @ 1_000_000_000..2_000_000_000) => {
                format!("{}{}", UnixSeconds(seconds).iso(), &part[digits.len()..])
            }
            _ => part.to_owned(),
        }
    });
    parts.collect()
}

/// A time in an argument: a date and time with an offset, a day in UTC, Unix seconds, or a duration.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// A point in time.
    At(UnixSeconds),
    /// A day in UTC.
    Day(Date),
    /// A duration: before or after the present time, depending on the argument.
    Span(Span),
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Ok(seconds) = text.parse() {
            return Ok(Self::At(UnixSeconds(seconds)));
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Self::At(UnixSeconds(time.as_second())));
        }
        // A date and time without an offset would also be parsed as its day.
        let is_day = text.len() == "2026-11-28".len();
        if let Some(day) = text.parse().ok().filter(|_| is_day) {
            return Ok(Self::Day(day));
        }
        let span = text
            .parse::<Span>()
            .ok()
            .filter(|_| text.starts_with(|first: char| first.is_ascii_digit()));
        span.map(Self::Span).ok_or(
            "it takes a date (2026-11-28), a date and time with an offset (2026-11-28T10:00:00Z), Unix seconds, or a duration \
             (24h, 7d)",
        )
    }
}

impl Moment {
    /// Returns the time as the start of a period in the past: a duration ago, or the first second of a day.
    #[must_use]
    pub fn since(self, now: UnixSeconds) -> UnixSeconds {
        match self {
            Self::Span(span) => shifted(now, -span),
            Self::Day(_) | Self::At(_) => self.start(now),
        }
    }

    /// Returns the time as the end of a period in the past: a duration ago, or the last second of a day.
    #[must_use]
    pub fn up_to(self, now: UnixSeconds) -> UnixSeconds {
        match self {
            Self::Day(day) => match day.tomorrow() {
                Ok(next) => Self::Day(next).start(now) - Duration::from_secs(1),
                Err(_) => UnixSeconds::NEVER,
            },
            Self::At(_) | Self::Span(_) => self.since(now),
        }
    }

    /// Returns the time as one in the future: a duration from now, or the first second of a day.
    #[must_use]
    pub fn ahead(self, now: UnixSeconds) -> UnixSeconds {
        self.start(now)
    }

    fn start(self, now: UnixSeconds) -> UnixSeconds {
        match self {
            Self::At(time) => time,
            Self::Day(day) => day
                .to_zoned_datetime(TimeZone::UTC)
                .map_or(UnixSeconds::NEVER, |day| {
                    UnixSeconds(day.timestamp().as_second())
                }),
            Self::Span(span) => shifted(now, span),
        }
    }
}

/// Returns the time `span` after `now`; 0 or [`UnixSeconds::NEVER`] if it cannot be represented.
fn shifted(now: UnixSeconds, span: Span) -> UnixSeconds {
    let beyond = if span.is_negative() {
        UnixSeconds(0)
    } else {
        UnixSeconds::NEVER
    };
    Timestamp::from_second(now.0)
        .and_then(|now| now.to_zoned_datetime(TimeZone::UTC).checked_add(span))
        .map_or(beyond, |time| UnixSeconds(time.timestamp().as_second()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-28T10:00:00Z.
    const NOW: UnixSeconds = UnixSeconds(1_795_860_000);

    fn moment(text: &str) -> Moment {
        text.parse().unwrap()
    }

    #[test]
    fn time_is_shown_as_utc_and_relative() {
        let shown = |offset: i64| show(UnixSeconds(NOW.0 + offset), NOW);
        assert_eq!(shown(0), "2026-11-28T10:00:00Z (now)");
        assert_eq!(shown(-90), "2026-11-28T09:58:30Z (90 s ago)");
        assert_eq!(shown(7_199), "2026-11-28T11:59:59Z (in 119 min)");
        assert_eq!(shown(-8_000), "2026-11-28T07:46:40Z (2 h ago)");
        assert_eq!(shown(200_000), "2026-11-30T17:33:20Z (in 2 d)");
    }

    #[test]
    fn times_in_messages_are_shown_as_utc() {
        let message =
            "paused since 1795860000, until 1795863600: 42 of 99 sandboxes, id 179586000012";
        assert_eq!(
            with_times(message),
            "paused since 2026-11-28T10:00:00Z, until 2026-11-28T11:00:00Z: 42 of 99 sandboxes, id 179586000012"
        );
        assert_eq!(with_times("at 1795860000"), "at 2026-11-28T10:00:00Z");
        assert_eq!(with_times(""), "");
    }

    #[test]
    fn argument_is_a_date_a_time_or_a_duration() {
        let since = |text| moment(text).since(NOW).iso();
        assert_eq!(since("2026-11-01"), "2026-11-01T00:00:00Z");
        assert_eq!(since("2026-11-28T10:00:00+01:00"), "2026-11-28T09:00:00Z");
        assert_eq!(since("1795856400"), "2026-11-28T09:00:00Z");
        assert_eq!(since("24h"), "2026-11-27T10:00:00Z");
        assert_eq!(since("7d"), "2026-11-21T10:00:00Z");
        assert_eq!(moment("90 min").ahead(NOW).iso(), "2026-11-28T11:30:00Z");
        assert_eq!(
            moment("2026-12-01").ahead(NOW).iso(),
            "2026-12-01T00:00:00Z"
        );
        assert_eq!(
            moment("2026-11-27").up_to(NOW).iso(),
            "2026-11-27T23:59:59Z"
        );
        for text in [
            "",
            "tomorrow",
            "2026-11-28T10:00:00",
            "-24h",
            "h",
            "2026-13-01",
            "P",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_argument_is_a_time_or_refused(text in prop_oneof![crate::arbitrary::text(), "[0-9]{1,12}[a-z]{1,2}"]) {
            if let Ok(moment) = text.parse::<Moment>() {
                let _ = moment.since(NOW).iso();
                let _ = moment.up_to(NOW).iso();
                let _ = moment.ahead(NOW).iso();
            }
        }
    }
}
