//! The items of a pool's refill.

use aws_sdk_dynamodb::types::AttributeValue;
use std::time::Duration;

use crate::{
    clock::UnixSeconds,
    domain::{Creation, LAST_CREATION, NamePrefix, RefillState, RefillStop},
    store::item::{self, Attributes, Item, ItemFault, number, string},
};

/// The beginning of the sort keys of open creations.
pub(super) const OPEN: &str = "CREATE#";
/// The beginning of the sort keys of closed creations.
pub(super) const CLOSED: &str = "CLOSED#";
/// The sort key of the state, after those of creations.
pub(super) const STATE: &str = "POOL";
/// The beginning of the attributes with the times of the last creations, one for each of their last two digits.
pub(super) const TIME: &str = "time_";

/// The state of a pool's refill and its open creations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefillItems {
    /// The state.
    pub state: RefillState,
    /// The open creations, by number.
    pub creations: Vec<Creation>,
    /// The faults of unreadable items, each with the key of the item.
    pub unreadable: Vec<String>,
}

impl RefillItems {
    /// Returns the fault of the first unreadable item, for operators; `None` if all are readable.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let fault = self.unreadable.first()?;
        Some(format!("unreadable item: {fault}"))
    }
}

pub(super) fn partition(prefix: &NamePrefix) -> String {
    format!("REFILL#{prefix}")
}

pub(super) fn key(prefix: &NamePrefix, sort: &str) -> Item {
    item::key(partition(prefix), sort)
}

/// Returns a sort key. Every number has ten digits, so that keys sort as numbers.
pub(super) fn sort_key(beginning: &str, number: u64) -> String {
    format!("{beginning}{number:010}")
}

/// Adds an item to those of its pool.
pub(super) fn read_item(items: &mut RefillItems, item: &Item) {
    let attributes = Attributes::of(item);
    let sort = attributes.text("SK").unwrap_or_default();
    let read = match sort.strip_prefix(OPEN) {
        Some(number) => read_creation(number, attributes).map(|it| items.creations.push(it)),
        None if sort == STATE => read_state(item).map(|state| items.state = state),
        None => Ok(()),
    };
    if let Err(fault) = read {
        let partition = item::partition_of(item).map_or("", String::as_str);
        items
            .unreadable
            .push(format!("{partition} / {sort}: {fault}"));
    }
}

fn read_creation(number: &str, attributes: Attributes<'_>) -> Result<Creation, ItemFault> {
    let digits = (number.len() == 10).then(|| number.parse().ok()).flatten();
    let number = digits.ok_or_else(|| ItemFault::value("SK", "has no number of ten digits"))?;
    let state = attributes
        .required_text("state")?
        .parse()
        .map_err(|fault| ItemFault::value("state", fault))?;
    let attempts = attributes.number("attempts");
    let attempts = attempts.and_then(|attempts| u32::try_from(attempts).ok());
    let intended_at = attributes.time("intended_at");
    Ok(Creation {
        number,
        name: attributes.required_text("name")?.to_owned(),
        state,
        intended_at: attributes.required("intended_at", intended_at, "time")?,
        attempted_at: attributes.time("attempted_at"),
        attempts: attributes.required("attempts", attempts, "number from 0 on")?,
        created_at: attributes.time("created_at"),
        external_id: attributes.owned_text("external_id"),
        looked_up_at: attributes.time("looked_up_at"),
        listed_at: attributes.time("listed_at"),
    })
}

fn read_state(item: &Item) -> Result<RefillState, ItemFault> {
    let attributes = Attributes::of(item);
    let last_number = match attributes.get("last_number") {
        None => Some(0),
        Some(_) => attributes
            .number("last_number")
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| *number <= LAST_CREATION),
    };
    let last_number = attributes.required("last_number", last_number, "number of a creation")?;
    let stop = attributes
        .short_text("stopped_reason")
        .map(|reason| RefillStop {
            reason,
            since: attributes.time("stopped_at").unwrap_or_default(),
            next_attempt_at: attributes.time("next_attempt_at").unwrap_or_default(),
            policy_version: version(attributes),
        });
    let times = item.iter().filter(|(name, _)| name.starts_with(TIME));
    Ok(RefillState {
        last_number,
        stop,
        below_since: attributes.time("below_since"),
        times: times.filter_map(|(_, value)| seconds(value)).collect(),
    })
}

fn version(attributes: Attributes<'_>) -> u32 {
    let version = attributes.number("policy_version");
    version
        .and_then(|version| u32::try_from(version).ok())
        .unwrap_or_default()
}

fn seconds(value: &AttributeValue) -> Option<Duration> {
    value.as_n().ok()?.parse().ok().map(Duration::from_secs)
}

/// Builds the item of a creation. Its sort key begins with [`OPEN`] or [`CLOSED`].
pub(super) fn creation_item(prefix: &NamePrefix, beginning: &str, creation: &Creation) -> Item {
    let mut item = key(prefix, &sort_key(beginning, creation.number));
    let mut set = |name: &str, value: AttributeValue| item.insert(name.to_owned(), value);
    set("name", string(&creation.name));
    set("state", string(creation.state.as_str()));
    set("intended_at", number(creation.intended_at.0));
    set("attempts", number(creation.attempts));
    let times: [(&str, Option<UnixSeconds>); 4] = [
        ("attempted_at", creation.attempted_at),
        ("created_at", creation.created_at),
        ("looked_up_at", creation.looked_up_at),
        ("listed_at", creation.listed_at),
    ];
    for (name, at) in times {
        if let Some(at) = at {
            set(name, number(at.0));
        }
    }
    if let Some(id) = &creation.external_id {
        set("external_id", string(id));
    }
    item
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{arbitrary::corrupted, domain::CreationState};

    fn prefix() -> NamePrefix {
        NamePrefix::parse("lab").unwrap()
    }

    fn creation() -> Creation {
        Creation {
            state: CreationState::Listed,
            attempted_at: Some(UnixSeconds(2)),
            attempts: 3,
            created_at: Some(UnixSeconds(4)),
            external_id: Some("identity/accounts/5".to_owned()),
            looked_up_at: Some(UnixSeconds(6)),
            listed_at: Some(UnixSeconds(7)),
            ..Creation::intended(&prefix(), 12, UnixSeconds(1))
        }
    }

    fn state() -> Item {
        let mut item = key(&prefix(), STATE);
        for (name, value) in [
            ("last_number", number(12)),
            ("stopped_reason", string("quota exceeded")),
            ("stopped_at", number(1)),
            ("next_attempt_at", number(2)),
            ("policy_version", number(3)),
            ("below_since", number(4)),
            ("time_00", number(60)),
            ("time_99", number(90)),
        ] {
            item.insert(name.to_owned(), value);
        }
        item
    }

    fn read(all: &[Item]) -> RefillItems {
        let mut items = RefillItems::default();
        for item in all {
            read_item(&mut items, item);
        }
        items
    }

    #[test]
    fn creation_and_state_read_back() {
        let items = read(&[creation_item(&prefix(), OPEN, &creation()), state()]);
        assert_eq!(items.creations, [creation()]);
        assert_eq!((items.state.last_number, items.state.times.len()), (12, 2));
        assert_eq!(items.state.stop.unwrap().policy_version, 3);
        assert_eq!(items.unreadable, [""; 0]);
    }

    #[test]
    fn sort_keys_of_closed_creations_are_before_all_that_is_read() {
        assert!(sort_key(CLOSED, LAST_CREATION).as_str() < OPEN);
        assert!(sort_key(OPEN, LAST_CREATION).as_str() < STATE);
    }

    #[test]
    fn unreadable_item_is_named_and_leaves_the_others() {
        let mut broken = creation_item(&prefix(), OPEN, &creation());
        broken.insert("state".to_owned(), string("begun"));
        let items = read(&[broken, creation_item(&prefix(), OPEN, &creation())]);
        assert_eq!(items.creations.len(), 1);
        let fault = r#"REFILL#lab / CREATE#0000000012: state: unknown status "begun""#;
        assert_eq!(items.unreadable, [fault]);
    }

    proptest! {
        #[test]
        fn any_item_is_read_or_reported(item in prop_oneof![
            corrupted(creation_item(&prefix(), OPEN, &creation())),
            corrupted(state()),
        ]) {
            let items = read(&[item]);
            prop_assert!(items.creations.len() + items.unreadable.len() <= 1);
            prop_assert!(items.state.last_number <= LAST_CREATION);
            for creation in &items.creations {
                prop_assert_eq!(creation.number, 12);
            }
        }
    }
}
