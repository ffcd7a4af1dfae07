//! Schedules of a pool: a target of its own from one time to another.

use std::{fmt, time::Duration};

use jiff::{
    Timestamp,
    civil::DateTime,
    fmt::temporal::DateTimeParser,
    tz::{Offset, TimeZone, TimeZoneDatabase},
};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::{clock::UnixSeconds, domain::ScheduledTarget};

/// A period in which a pool has a target of its own, such as a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "from": "2026-11-28T10:00:00", "to": "2026-11-28T12:00:00", "target_available": 60, "time_zone": "Europe/Berlin"
}))]
pub struct ScheduleEntry {
    /// When it begins: a date and time with an offset, or a local one in `time_zone`.
    #[schema(value_type = String)]
    pub from: ScheduleTime,
    /// When it ends, in the form of `from`.
    #[schema(value_type = String)]
    pub to: ScheduleTime,
    /// How many sandboxes should be available.
    #[schema(minimum = 0, maximum = 100_000)]
    pub target_available: u32,
    /// The time zone of times without an offset: a name of the IANA time zone database.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub time_zone: Option<ZoneName>,
    /// How long before `from` the creation of sandboxes begins; as long as it takes if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 10_080)]
    pub lead_minutes: Option<u32>,
}

/// A time as a schedule states it, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScheduleTime {
    /// With an offset.
    Fixed(Timestamp, Offset),
    /// As clocks in the time zone of the schedule show it.
    Local(DateTime),
}

/// The name of a time zone that the bundled database has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct ZoneName(String);

impl ScheduleEntry {
    /// Returns the target with its times resolved; `None` if a time has neither an offset nor a time zone, or lies beyond
    /// the calendar.
    ///
    /// Where clocks are set, a local time may come twice or not at all. A period is then as long as it can be: it begins
    /// at the earlier of the two times in question, and ends at the later one.
    pub(super) fn resolve(&self) -> Option<ScheduledTarget> {
        let zone = self.time_zone.as_ref().and_then(ZoneName::zone);
        let earlier = |local| zone.as_ref()?.to_ambiguous_timestamp(local).earlier().ok();
        let later = |local| zone.as_ref()?.to_ambiguous_timestamp(local).later().ok();
        Some(ScheduledTarget {
            from: self.from.resolve(earlier)?,
            to: self.to.resolve(later)?,
            target_available: self.target_available,
            lead: self
                .lead_minutes
                .map(|minutes| Duration::from_mins(minutes.into())),
        })
    }
}

impl ScheduleTime {
    /// Parses a date and time of RFC 3339, or one without an offset.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let pieces = DateTimeParser::new().parse_pieces(text.trim()).ok()?;
        let time = pieces.time()?;
        let is_exact = time.subsec_nanosecond() == 0 && pieces.time_zone_annotation().is_none();
        let local = Some(pieces.date().to_datetime(time)).filter(|_| is_exact)?;
        let Some(offset) = pieces.to_numeric_offset() else {
            return Some(Self::Local(local));
        };
        // RFC 3339 has no seconds in an offset.
        let offset = Some(offset).filter(|offset| offset.seconds() % 60 == 0)?;
        Some(Self::Fixed(offset.to_timestamp(local).ok()?, offset))
    }

    /// Returns whether it needs a time zone.
    pub(super) const fn is_local(self) -> bool {
        matches!(self, Self::Local(_))
    }

    fn resolve(self, in_zone: impl FnOnce(DateTime) -> Option<Timestamp>) -> Option<UnixSeconds> {
        let timestamp = match self {
            Self::Fixed(timestamp, _) => timestamp,
            Self::Local(local) => in_zone(local)?,
        };
        Some(UnixSeconds(timestamp.as_second()))
    }
}

impl fmt::Display for ScheduleTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(timestamp, Offset::UTC) => timestamp.fmt(f),
            Self::Fixed(timestamp, offset) => timestamp.display_with_offset(*offset).fmt(f),
            Self::Local(local) => local.fmt(f),
        }
    }
}

impl Serialize for ScheduleTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl ZoneName {
    /// Parses the name of a time zone, in upper or lower case.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let zone = zone(text.trim())?;
        zone.iana_name().map(|name| Self(name.to_owned()))
    }

    fn zone(&self) -> Option<TimeZone> {
        zone(&self.0)
    }
}

/// Returns a time zone of the bundled database, so that a broker needs no files of its system, and all brokers of one
/// version know the same rules.
fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}
