//! The rules of a policy document.

use std::{
    collections::{BTreeMap, HashMap},
    ops::{Bound, RangeInclusive},
};

use serde_json::Value;

use super::{
    collector::{Collector, Fields, UnknownFields},
    document::{
        AdminUser, LabEntry, MAX_POLICY_BYTES, PolicyDocument, PoolCreation, PoolEntry, StatedTerms,
    },
    fault::PolicyFaults,
    path::{FieldPath, quoted},
    schedule::{ScheduleEntry, ScheduleTime, ZoneName},
    terms::Replaced,
};
use crate::domain::{LabId, MAX_TEXT, NamePrefix, text::check_printable};

const MAX_LABS: usize = 10_000;
const MAX_POOLS: usize = 1_000;
const MAX_SCHEDULES: usize = 100;
/// The longest prefix, in bytes, of a pool whose sandboxes are created. Their names have a number after it, and stay
/// shorter than the 256 characters that a request can name as a prefix.
const MAX_CREATED_PREFIX: usize = 200;
const MAX_TAGS: usize = 50;
const MAX_DESCRIPTION: usize = 500;
/// The longest address that a mail server accepts.
const MAX_EMAIL: usize = 254;

/// From [`SHORTEST_DURATION`](crate::domain::SHORTEST_DURATION) to [`LONGEST_DURATION`](crate::domain::LONGEST_DURATION),
/// 30 days.
const MINUTES: RangeInclusive<u32> = 1..=43_200;
const REPLACEMENTS: RangeInclusive<u32> = 0..=100;
/// The upper bound is the largest pool that `docs/scaling.md` has figures of.
const SANDBOXES: RangeInclusive<u32> = 0..=100_000;
/// Up to a week.
const LEAD: RangeInclusive<u32> = 0..=10_080;

const ID: &str =
    "1 to 256 printable characters: the id of a lab, or the beginning of ids with one * at its end";
const TEXT: &str = "1 to 256 printable characters";
const TIME: &str = "a date and time in whole seconds, such as 2026-11-28T10:00:00+01:00, or without the offset beside a time_zone";
const TIME_ZONE: &str = "a name of the IANA time zone database, such as Europe/Berlin";
const DESCRIPTION: &str = "1 to 500 printable characters";
const EMAIL: &str = "the address of an administrator, such as labs@example.com";

impl PolicyDocument {
    /// Reads input, in which an unknown field is a fault.
    ///
    /// # Errors
    /// [`PolicyFaults`], all of them.
    pub fn parse(value: &Value) -> Result<Self, PolicyFaults> {
        read(value, UnknownFields::Refused)
    }

    /// Reads a stored document. Ignores unknown fields, which a newer broker may have written; the rest has to be as in
    /// input.
    ///
    /// # Errors
    /// [`PolicyFaults`] if it is no document that this broker understands.
    pub fn stored(value: &Value) -> Result<Self, PolicyFaults> {
        read(value, UnknownFields::Ignored)
    }
}

fn read(value: &Value, unknown_fields: UnknownFields) -> Result<PolicyDocument, PolicyFaults> {
    let mut collector = Collector::new(unknown_fields);
    let document = collector.object(value, &FieldPath::Document, |fields| {
        let defaults = fields.object("defaults", |fields| terms(fields, &StatedTerms::default()));
        let defaults = defaults.unwrap_or_default();
        PolicyDocument {
            lab: labs(fields, &defaults),
            pool: pools(fields),
            defaults,
        }
    });
    let mut faults = collector.faults;
    let bytes = document.as_ref().map_or(0, size);
    if bytes > MAX_POLICY_BYTES {
        let takes = format_args!("at most {MAX_POLICY_BYTES} bytes as JSON");
        faults.add(FieldPath::Document, format_args!("{bytes} bytes"), takes);
    }
    faults.none_or(document)
}

/// Returns the size of a document as JSON, in bytes.
fn size(document: &PolicyDocument) -> usize {
    serde_json::to_vec(document).map_or(usize::MAX, |json| json.len())
}

/// Reads the terms of an entry, or the defaults, which have no defaults of their own in the document.
fn terms(fields: &mut Fields<'_>, defaults: &StatedTerms) -> StatedTerms {
    let faults = fields.fault_count();
    let terms = StatedTerms {
        duration_minutes: fields.number("duration_minutes", &MINUTES),
        max_duration_minutes: fields.number("max_duration_minutes", &MINUTES),
        max_replacements: fields.number("max_replacements", &REPLACEMENTS),
        replaced: fields.text("replaced", "\"delete\" or \"quarantine\"", replaced),
    };
    if fields.fault_count() == faults {
        check_durations(fields, &terms, defaults);
    }
    terms
}

/// Adds a fault if the maximum in force is below the duration in force. An entry that states neither has those of the
/// defaults, whose fault it is.
fn check_durations(fields: &mut Fields<'_>, terms: &StatedTerms, defaults: &StatedTerms) {
    let duration = terms.duration_minutes.or(defaults.duration_minutes);
    let max = terms.max_duration_minutes.or(defaults.max_duration_minutes);
    let (Some(duration), Some(max)) = (duration, max) else {
        return;
    };
    if max >= duration {
        return;
    }
    if terms.max_duration_minutes.is_some() {
        let origin = origin(terms.duration_minutes);
        let takes = format_args!("at least {duration}, the duration_minutes {origin}");
        fields.contradiction("max_duration_minutes", takes);
    } else if terms.duration_minutes.is_some() {
        let origin = origin(terms.max_duration_minutes);
        let takes = format_args!("at most {max}, the max_duration_minutes {origin}");
        fields.contradiction("duration_minutes", takes);
    }
}

fn origin(stated: Option<u32>) -> &'static str {
    if stated.is_some() {
        "beside it"
    } else {
        "of the defaults"
    }
}

fn replaced(text: &str) -> Option<Replaced> {
    match text {
        "delete" => Some(Replaced::Delete),
        "quarantine" => Some(Replaced::Quarantine),
        _ => None,
    }
}

fn labs(fields: &mut Fields<'_>, defaults: &StatedTerms) -> Vec<LabEntry> {
    let mut indexes: HashMap<LabId, usize> = HashMap::new();
    fields.objects("lab", MAX_LABS, |index, fields| {
        let id = fields.required_text("id", ID, LabEntry::parse_id);
        let name_prefix = fields.text("name_prefix", TEXT, prefix);
        let terms = terms(fields, defaults);
        let max_held = fields.number("max_held", &SANDBOXES);
        let id = id?;
        if let Some(first) = indexes.get(&id) {
            fields.contradiction("id", format_args!("another id than lab[{first}]"));
            return None;
        }
        indexes.insert(id.clone(), index);
        Some(LabEntry {
            id,
            name_prefix,
            terms,
            max_held,
        })
    })
}

fn prefix(text: &str) -> Option<NamePrefix> {
    NamePrefix::parse(text).ok()
}

fn pools(fields: &mut Fields<'_>) -> Vec<PoolEntry> {
    let mut indexes: BTreeMap<NamePrefix, usize> = BTreeMap::new();
    fields.objects("pool", MAX_POOLS, |index, fields| {
        let name_prefix = fields.required_text("name_prefix", TEXT, prefix);
        let (target_available, max_total) = sizes(fields);
        let schedule = schedules(fields, max_total);
        let create = fields.object("create", creation);
        let name_prefix = name_prefix?;
        if create.is_some() && name_prefix.as_str().len() > MAX_CREATED_PREFIX {
            let takes = format_args!(
                "at most {MAX_CREATED_PREFIX} bytes beside create: the names of new sandboxes have a number after it"
            );
            fields.contradiction("name_prefix", takes);
        }
        if let Some((other, first)) = overlapping(&indexes, name_prefix.as_str()) {
            let other = quoted(other);
            let takes =
                format_args!("a prefix that does not overlap with {other} of pool[{first}]");
            fields.contradiction("name_prefix", takes);
            return None;
        }
        indexes.insert(name_prefix.clone(), index);
        Some(PoolEntry {
            name_prefix,
            target_available,
            max_total,
            schedule,
            create,
        })
    })
}

/// Returns the pool whose prefix begins with `prefix`, or the other way round. The known prefixes do not overlap with
/// each other, so that one of them is next to `prefix` in their order.
fn overlapping<'a>(
    indexes: &'a BTreeMap<NamePrefix, usize>,
    prefix: &str,
) -> Option<(&'a str, usize)> {
    let before = (Bound::Unbounded, Bound::Excluded(prefix));
    let from = (Bound::Included(prefix), Bound::Unbounded);
    let before = indexes.range::<str, _>(before).next_back();
    let after = indexes.range::<str, _>(from).next();
    before
        .filter(|(other, _)| prefix.starts_with(other.as_str()))
        .or_else(|| after.filter(|(other, _)| other.as_str().starts_with(prefix)))
        .map(|(other, index)| (other.as_str(), *index))
}

/// Reads how many sandboxes a pool should have available, and how many it may have in all.
fn sizes(fields: &mut Fields<'_>) -> (Option<u32>, Option<u32>) {
    let target = fields.number("target_available", &SANDBOXES);
    let max = fields.number("max_total", &SANDBOXES);
    if let (Some(target), Some(max)) = (target, max)
        && target > max
    {
        let takes = format_args!("at most {max}, the max_total beside it");
        fields.contradiction("target_available", takes);
    }
    (target, max)
}

/// Reads the schedules of a pool, which may have `max_total` sandboxes.
fn schedules(fields: &mut Fields<'_>, max_total: Option<u32>) -> Vec<ScheduleEntry> {
    let mut indexes = HashMap::new();
    fields.objects("schedule", MAX_SCHEDULES, |index, fields| {
        let faults = fields.fault_count();
        let from = fields.required_text("from", TIME, ScheduleTime::parse);
        let to = fields.required_text("to", TIME, ScheduleTime::parse);
        let target_available = fields.required_number("target_available", &SANDBOXES);
        let time_zone = fields.text("time_zone", TIME_ZONE, ZoneName::parse);
        let lead_minutes = fields.number("lead_minutes", &LEAD);
        let schedule = ScheduleEntry {
            from: from?,
            to: to?,
            target_available: target_available?,
            time_zone,
            lead_minutes,
        };
        if fields.fault_count() == faults {
            check_target(fields, schedule.target_available, max_total);
            check_period(fields, &schedule);
        }
        let period = (schedule.from, schedule.to, schedule.time_zone.clone());
        let first = *indexes.entry(period).or_insert(index);
        if first < index {
            let takes = format_args!("another period than that of schedule[{first}]");
            fields.contradiction("from", takes);
        }
        Some(schedule)
    })
}

fn check_target(fields: &mut Fields<'_>, target: u32, max_total: Option<u32>) {
    if let Some(max) = max_total.filter(|max| target > *max) {
        let takes = format_args!("at most {max}, the max_total of the pool");
        fields.contradiction("target_available", takes);
    }
}

/// Adds a fault if it is not known when a schedule begins or ends, or if it ends before it begins.
fn check_period(fields: &mut Fields<'_>, schedule: &ScheduleEntry) {
    let ScheduleEntry {
        from,
        to,
        time_zone,
        ..
    } = schedule;
    let local = [("from", from), ("to", to)]
        .into_iter()
        .filter(|(_, time)| time.is_local());
    let faults = fields.fault_count();
    match time_zone {
        None => local.for_each(|(name, _)| {
            let takes = "an offset at its end, such as +01:00, or a time_zone beside it";
            fields.contradiction(name, takes);
        }),
        Some(_) if local.count() == 0 => {
            fields.contradiction("time_zone", "nothing: from and to have offsets");
        }
        Some(_) => {}
    }
    if fields.fault_count() > faults {
        return;
    }
    match schedule.resolve() {
        None => fields.contradiction("from", TIME),
        Some(period) if period.to <= period.from => {
            fields.contradiction("to", format_args!("a time after {from}, when it begins"));
        }
        Some(_) => {}
    }
}

fn creation(fields: &mut Fields<'_>) -> PoolCreation {
    PoolCreation {
        description: fields.text("description", DESCRIPTION, |text| {
            printable(text, MAX_DESCRIPTION)
        }),
        tags: fields.texts("tags", MAX_TAGS, TEXT, |text| {
            check_printable(text, MAX_TEXT).is_ok()
        }),
        admin_user: fields.object("admin_user", admin_user).flatten(),
    }
}

fn admin_user(fields: &mut Fields<'_>) -> Option<AdminUser> {
    let email = fields.required_text("email", EMAIL, email);
    let name = fields.required_text("name", TEXT, |text| printable(text, MAX_TEXT));
    Some(AdminUser {
        email: email?,
        name: name?,
    })
}

/// Parses a text without the white space around it.
fn printable(text: &str, max: usize) -> Option<String> {
    let text = text.trim();
    check_printable(text, max).ok()?;
    Some(text.to_owned())
}

/// Parses an address as far as typing errors show: CSP decides whether it takes it.
fn email(text: &str) -> Option<String> {
    let email = printable(text, MAX_EMAIL)?;
    let (name, domain) = email.split_once('@')?;
    let is_address = !name.is_empty()
        && !domain.is_empty()
        && !domain.contains('@')
        && !email.contains(char::is_whitespace);
    is_address.then_some(email)
}
