//! Reads of audit records, newest first: those of a span of time, over the partitions of its days, and those of a
//! sandbox.
//!
//! Every stored item is listed, with [`UNREADABLE`] in place of attributes that cannot be read: the absence of a record
//! would not be noticed.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{EVENT, day_partition, sandbox_partition};
use crate::{
    clock::UnixSeconds,
    domain::{Event, EventFilter, SandboxId},
    store::{
        PoolStore, StoreError, cursor,
        item::{self, Item, integer, string},
        scan::ITEMS_PER_PAGE,
    },
};

const DAY_MS: i64 = 24 * 3600 * 1000;
/// The first value in the cursors of listings by day. Those of a sandbox have its partition key there.
const BY_DAY: &str = "AUDIT";
/// The maximum number of queries for one page of a listing by day. The cursor continues after them.
const QUERIES_PER_PAGE: usize = 64;
/// The number of records after which no further query is made for a page. The cursor continues after them.
const RECORDS_PER_PAGE: usize = 8 * 1024;
/// The latest time that a sort key can have, in 13 digits.
const LATEST_MS: i64 = 9_999_999_999_999;
/// Stands for a text that a record lacks.
const UNREADABLE: &str = "unreadable";

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditSpan {
    /// Its first millisecond.
    pub from_ms: i64,
    /// Its last millisecond; not before the first.
    pub to_ms: i64,
}

impl AuditSpan {
    /// Returns the lowest and the highest sort key that records of the span have on a day.
    fn bounds(self, day: i64) -> (String, String) {
        let start = day.saturating_mul(DAY_MS);
        let from = self.from_ms.max(start);
        // A sort key has more after its milliseconds, and so is higher than those alone.
        let end = self.to_ms.min(start.saturating_add(DAY_MS - 1)) + 1;
        (format!("{from:013}"), format!("{end:013}"))
    }
}

/// A position in the listing by day: all records of later days, and those of the day from `after` on, are before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPosition {
    /// The number of the day since 1970-01-01 UTC.
    day: i64,
    /// The sort key of the last record before the position, if that is of this day.
    after: Option<String>,
}

impl AuditPosition {
    /// Decodes a cursor. Returns `None` if it does not belong to the listing by day.
    #[must_use]
    pub fn from_cursor(cursor: &str) -> Option<Self> {
        let (listing, day, after): (String, i64, Option<String>) = cursor::decode(cursor)?;
        let is_key = after.as_deref().is_none_or(cursor::is_sort_key);
        (listing == BY_DAY && is_key).then_some(Self { day, after })
    }

    /// Encodes the position as a text that is safe in a URL.
    #[must_use]
    pub fn to_cursor(&self) -> String {
        cursor::encode(&(BY_DAY, self.day, &self.after))
    }

    /// Returns the position before all records of the previous day.
    const fn previous_day(&self) -> Self {
        Self {
            day: self.day.saturating_sub(1),
            after: None,
        }
    }
}

/// A position in the listing of a sandbox: the sort key of the last record before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPosition(String);

impl EventPosition {
    /// Decodes a cursor. Returns `None` if it does not belong to the listing of this sandbox.
    #[must_use]
    pub fn from_cursor(cursor: &str, id: &SandboxId) -> Option<Self> {
        let (partition, after): (String, String) = cursor::decode(cursor)?;
        let is_key = after.starts_with(EVENT) && cursor::is_sort_key(&after);
        (partition == sandbox_partition(id) && is_key).then_some(Self(after))
    }

    /// Encodes the position in the listing of this sandbox as a text that is safe in a URL.
    #[must_use]
    pub fn to_cursor(&self, id: &SandboxId) -> String {
        cursor::encode(&(sandbox_partition(id), &self.0))
    }

    /// Returns the time of the last record before the position, in milliseconds.
    #[must_use]
    pub fn at_ms(&self) -> i64 {
        time_of(&self.0).unwrap_or(0)
    }
}

/// A page of a listing of events.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPage<P> {
    /// The events, newest first.
    pub events: Vec<Event>,
    /// Start of the next page; `None` at the end of the listing.
    pub next: Option<P>,
}

impl PoolStore {
    /// Returns a page of at most `limit` records of a span from `start` on, filtered. A page may be shorter although
    /// there are more records; the listing ends only with a page without [`next`](EventPage::next).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_page(
        &self,
        span: AuditSpan,
        filter: &EventFilter,
        limit: usize,
        start: Option<AuditPosition>,
    ) -> Result<EventPage<AuditPosition>, StoreError> {
        let (first_day, last_day) = (
            span.from_ms.div_euclid(DAY_MS),
            span.to_ms.div_euclid(DAY_MS),
        );
        let newest = AuditPosition {
            day: last_day,
            after: None,
        };
        let mut position = start
            .filter(|start| start.day <= last_day)
            .unwrap_or(newest);
        let mut events = Vec::new();
        let mut read = 0;
        // A filter discards most records, so the pages of the table are of the maximum size.
        let wanted = if filter.is_empty() { limit } else { usize::MAX };
        for _ in 0..QUERIES_PER_PAGE {
            if position.day < first_day {
                return Ok(EventPage { events, next: None });
            }
            let (lowest, highest) = span.bounds(position.day);
            // DynamoDB rejects a start outside of the bounds of a query.
            let after = position.after.take().filter(|after| *after < highest);
            if after.as_ref().is_some_and(|after| *after <= lowest) {
                position = position.previous_day();
                continue;
            }
            let partition = day_partition(position.day.saturating_mul(DAY_MS));
            let (items, is_last) = self
                .newest_first(partition, lowest, highest, after, wanted - events.len())
                .await?;
            read += items.len();
            for item in items {
                let event = read_event(&item);
                position.after = sort_key(&item).map(str::to_owned);
                if filter.admits(&event) {
                    events.push(event);
                }
                if events.len() == limit {
                    let next = Some(position);
                    return Ok(EventPage { events, next });
                }
            }
            if is_last {
                position = position.previous_day();
            }
            if read >= RECORDS_PER_PAGE {
                break;
            }
        }
        let next = (position.day >= first_day).then_some(position);
        Ok(EventPage { events, next })
    }

    /// Returns a page of at most `limit` records of a sandbox from `start` on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sandbox_events(
        &self,
        id: &SandboxId,
        limit: usize,
        start: Option<EventPosition>,
    ) -> Result<EventPage<EventPosition>, StoreError> {
        // In ASCII, `$` follows `#`.
        let (lowest, highest) = (EVENT.to_owned(), EVENT.replace('#', "$"));
        let after = start.map(|EventPosition(after)| after);
        let (items, is_last) = self
            .newest_first(sandbox_partition(id), lowest, highest, after, limit)
            .await?;
        let last = items.last().and_then(sort_key);
        let next = last
            .filter(|_| !is_last)
            .map(|key| EventPosition(key.to_owned()));
        let events = items.iter().map(read_event).collect();
        Ok(EventPage { events, next })
    }

    /// Returns the records of a sandbox within a second of `at`: a change of its item knows only the second.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events_around(
        &self,
        id: &SandboxId,
        at: UnixSeconds,
    ) -> Result<Vec<Event>, StoreError> {
        let bound = |seconds: i64| {
            let at_ms = at.0.saturating_add(seconds).saturating_mul(1000);
            // Longer or negative numbers have no place in the order of the keys.
            format!("{EVENT}{:013}", at_ms.clamp(0, LATEST_MS))
        };
        let (items, _) = self
            .newest_first(sandbox_partition(id), bound(-1), bound(2), None, usize::MAX)
            .await?;
        Ok(items.iter().map(read_event).collect())
    }

    /// Reads at most `limit` records of a partition between two sort keys, from `after` on, newest first and strongly
    /// consistent, in one call. Returns them, and whether there are no more.
    async fn newest_first(
        &self,
        partition: String,
        lowest: String,
        highest: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Item>, bool), StoreError> {
        let largest = self.reads.page_of(ITEMS_PER_PAGE);
        let limit = i32::try_from(limit).map_or(largest, |limit| limit.min(largest));
        let start = after.map(|after| item::key(partition.clone(), &after));
        let _permit = self.reads.page_permit().await;
        let answer = self
            .client
            .query()
            .table_name(&self.table.companion)
            .key_condition_expression("PK = :partition AND SK BETWEEN :lowest AND :highest")
            .expression_attribute_values(":partition", string(partition))
            .expression_attribute_values(":lowest", string(lowest))
            .expression_attribute_values(":highest", string(highest))
            .set_exclusive_start_key(start)
            .scan_index_forward(false)
            .consistent_read(true)
            .limit(limit)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("Query", error))?;
        let is_last = answer.last_evaluated_key.is_none();
        Ok((answer.items.unwrap_or_default(), is_last))
    }
}

fn sort_key(item: &Item) -> Option<&str> {
    item.get("SK")?.as_s().ok().map(String::as_str)
}

/// Returns the time in the sort key of a record, in milliseconds.
fn time_of(key: &str) -> Option<i64> {
    let key = key.strip_prefix(EVENT).unwrap_or(key);
    key.split('#').next()?.parse().ok()
}

/// Converts a record. Its time is the one of its sort key, which determines its place in a listing.
fn read_event(item: &Item) -> Event {
    let text = |name| item.get(name)?.as_s().ok().cloned();
    let required = |name: &'static str| {
        text(name).unwrap_or_else(|| {
            tracing::warn!(
                key = sort_key(item),
                attribute = name,
                "unreadable audit record"
            );
            UNREADABLE.to_owned()
        })
    };
    let state = |name| {
        let text = text(name)?;
        let object: Option<HashMap<String, Value>> = serde_json::from_str(&text).ok();
        Some(object.map_or_else(|| json!({ UNREADABLE: text }), |object| json!(object)))
    };
    Event {
        at_ms: sort_key(item)
            .and_then(time_of)
            .or_else(|| integer(Some(item), "at_ms"))
            .unwrap_or(0),
        action: required("action"),
        actor: text("actor"),
        role: text("role"),
        target: required("target"),
        outcome: required("outcome"),
        reason: text("reason"),
        before: state("before"),
        after: state("after"),
        request_id: text("request_id"),
        address: text("address"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::records, *};
    use crate::{
        arbitrary::corrupted,
        domain::{AuditAction, AuditRecord, AuditTarget, Author, DONE, Reason, Role},
    };

    fn record() -> AuditRecord {
        AuditRecord {
            at_ms: 1_774_000_000_123,
            author: Author {
                name: "anna".into(),
                role: Some(Role::Operator),
                request_id: "req#1".to_owned(),
                address: Some("203.0.113.5".to_owned()),
            },
            action: AuditAction::Release,
            target: AuditTarget::Sandbox(SandboxId::parse("2009521").unwrap()),
            reason: Some(Reason::parse("broken DNS").unwrap()),
            before: Some(json!({ "status": "allocated" })),
            after: Some(json!({ "status": "pending_deletion" })),
            outcome: DONE,
        }
    }

    #[test]
    fn record_reads_back_from_both_items() {
        let items = records(&record()).unwrap();
        assert_eq!(items.len(), 2);
        for item in items {
            let event = read_event(&item);
            assert_eq!(event.at_ms, 1_774_000_000_123);
            assert_eq!(
                (event.action.as_str(), event.outcome.as_str()),
                ("sandbox.release", "done")
            );
            assert_eq!(event.target, "sandbox/2009521");
            assert_eq!(
                (event.actor.as_deref(), event.role.as_deref()),
                (Some("anna"), Some("operator"))
            );
            assert_eq!(event.reason.as_deref(), Some("broken DNS"));
            assert_eq!(event.before, Some(json!({ "status": "allocated" })));
            assert_eq!(event.after, Some(json!({ "status": "pending_deletion" })));
            assert_eq!(event.request_id.as_deref(), Some("req#1"));
            assert_eq!(event.address.as_deref(), Some("203.0.113.5"));
        }
    }

    #[test]
    fn unreadable_parts_of_a_record_are_shown_as_such() {
        let mut item = records(&record()).unwrap().remove(0);
        item.remove("outcome");
        item.insert("action".to_owned(), item::number(1));
        item.insert("before".to_owned(), string("not JSON"));
        let event = read_event(&item);
        assert_eq!(
            (event.action.as_str(), event.outcome.as_str()),
            (UNREADABLE, UNREADABLE)
        );
        assert_eq!(event.before, Some(json!({ UNREADABLE: "not JSON" })));
        assert_eq!(event.actor.as_deref(), Some("anna"));
    }

    #[test]
    fn bounds_of_a_day_are_those_of_the_span_within_it() {
        let span = AuditSpan {
            from_ms: DAY_MS + 5,
            to_ms: 3 * DAY_MS + 7,
        };
        let bounds = |from: i64, end: i64| (format!("{from:013}"), format!("{end:013}"));
        assert_eq!(span.bounds(1), bounds(DAY_MS + 5, 2 * DAY_MS));
        assert_eq!(span.bounds(2), bounds(2 * DAY_MS, 3 * DAY_MS));
        assert_eq!(span.bounds(3), bounds(3 * DAY_MS, 3 * DAY_MS + 8));
    }

    #[test]
    fn cursor_is_valid_for_its_own_listing_only() {
        let (one, other) = (
            SandboxId::parse("1").unwrap(),
            SandboxId::parse("2").unwrap(),
        );
        let of_day = AuditPosition {
            day: 20_000,
            after: Some("0001728000000000#r#1".to_owned()),
        };
        let of_sandbox = EventPosition("EVENT#0001728000000#r#1".to_owned());
        assert_eq!(of_sandbox.at_ms(), 1_728_000_000);
        let (by_day, by_sandbox) = (of_day.to_cursor(), of_sandbox.to_cursor(&one));
        assert_eq!(AuditPosition::from_cursor(&by_day), Some(of_day));
        assert_eq!(AuditPosition::from_cursor(&by_sandbox), None);
        assert_eq!(
            EventPosition::from_cursor(&by_sandbox, &one),
            Some(of_sandbox)
        );
        assert_eq!(EventPosition::from_cursor(&by_sandbox, &other), None);
        assert_eq!(EventPosition::from_cursor(&by_day, &one), None);
        let forged = [
            cursor::encode(&("SBX#1", "META")),
            cursor::encode(&("SBX#1", "EVENT#".repeat(200))),
            cursor::encode(&(BY_DAY, 1, "")),
            cursor::encode(&(BY_DAY, 1, "x".repeat(1025))),
            cursor::encode(&(BY_DAY, 1.5, "x")),
            cursor::encode(&(BY_DAY, 1)),
        ];
        for forged in forged {
            assert_eq!(AuditPosition::from_cursor(&forged), None, "{forged}");
            assert_eq!(EventPosition::from_cursor(&forged, &one), None, "{forged}");
        }
    }

    proptest! {
        #[test]
        fn any_item_is_shown(item in corrupted(records(&record()).unwrap().remove(0))) {
            read_event(&item);
        }

        #[test]
        fn any_text_is_a_cursor_with_a_valid_key_or_is_rejected(text in prop_oneof![
            crate::arbitrary::text(),
            crate::arbitrary::json().prop_map(|json| cursor::encode(&json)),
            (any::<i64>(), proptest::option::of(".{0,1100}")).prop_map(|(day, after)| cursor::encode(&(BY_DAY, day, after))),
        ]) {
            if let Some(position) = AuditPosition::from_cursor(&text) {
                prop_assert!(position.after.as_deref().is_none_or(cursor::is_sort_key));
                // Any day has bounds and a partition.
                let span = AuditSpan { from_ms: 0, to_ms: i64::from(i32::MAX) };
                span.bounds(position.day);
                day_partition(position.day.saturating_mul(DAY_MS));
                position.previous_day();
            }
        }

        #[test]
        fn any_position_decodes_from_its_cursor(day in any::<i64>(), after in proptest::option::of("[ -~]{1,200}"), id in "[!-~]{1,256}") {
            let position = AuditPosition { day, after: after.clone() };
            prop_assert_eq!(AuditPosition::from_cursor(&position.to_cursor()), Some(position));
            let id = SandboxId::stored(id);
            let position = EventPosition(format!("{EVENT}{}", after.unwrap_or_default()));
            prop_assert_eq!(EventPosition::from_cursor(&position.to_cursor(&id), &id), Some(position));
        }
    }
}
