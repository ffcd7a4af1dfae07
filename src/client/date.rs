//! Dates and durations in headers.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};

use crate::clock::UnixSeconds;

/// The longest wait that an answer can ask for; a longer one is taken for an error of its sender, and shortened.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// Parses the date of a header, such as `Fri, 27 Nov 2026 22:12:00 GMT`.
pub(super) fn parse(value: &HeaderValue) -> Option<UnixSeconds> {
    let date = DateTimeParser::new().parse_timestamp(value.to_str().ok()?);
    Some(UnixSeconds(date.ok()?.as_second()))
}

/// Returns how long an answer asks to wait before a retry: a number of seconds, or a date, which is compared with the
/// date of the answer rather than with the clock of this machine.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    let seconds = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let span = seconds.map(Duration::from_secs).or_else(|| {
        let (at, now) = (parse(value)?, parse(headers.get(DATE)?)?);
        Some(Duration::from_secs(
            u64::try_from(at.0 - now.0).unwrap_or(0),
        ))
    })?;
    Some(span.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(retry_after_text: &'static str, date: &'static str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(retry_after_text));
        headers.insert(DATE, HeaderValue::from_static(date));
        Some(retry_after(&headers)?.as_secs())
    }

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        let now = "Fri, 27 Nov 2026 22:12:00 GMT";
        for (text, seconds) in [
            ("30", Some(30)),
            (" 0 ", Some(0)),
            ("Fri, 27 Nov 2026 22:12:45 GMT", Some(45)),
            ("Fri, 27 Nov 2026 22:11:00 GMT", Some(0)),
            ("99999999999999999999", None),
            ("18446744073709551615", Some(86_400)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wait(text, now), seconds, "{text}");
        }
        assert_eq!(wait("Fri, 27 Nov 2026 22:12:45 GMT", "today"), None);
    }
}
