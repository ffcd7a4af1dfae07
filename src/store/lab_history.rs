//! The histories of labs: how long their last allocations lasted, one item of the companion table for each lab.
//!
//! A duration is stored in one of [`PLACES`] attributes, chosen by a hash of its sandbox, in place of an earlier one. So one
//! update adds durations without a read, and a repeated update adds none twice; the item has some of the last few hundred.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{
    PoolStore, StoreError,
    cursor::is_sort_key,
    item::{self, Attributes, Item, number, string},
    scan::ITEMS_PER_PAGE,
};
use crate::{
    clock::UnixSeconds,
    domain::{LabHistory, LabId, SandboxId},
};

const PARTITION: &str = "DURATIONS";
/// The prefix of the attributes with durations, in seconds, one for each place. It is short, so that an item is below 1 KB,
/// one write unit.
const DURATION: &str = "d";
/// The maximum number of durations of a lab.
const PLACES: u16 = 100;
/// How long a history is kept after its last duration.
const RETENTION: Duration = Duration::from_hours(90 * 24);

impl PoolStore {
    /// Adds durations to the history of a lab, each with its sandbox.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_durations(
        &self,
        lab: &LabId,
        durations: &[(SandboxId, Duration)],
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        // Empty, or too long for a key: only an item of the FastAPI service may have such an id of a lab.
        if !is_sort_key(lab.as_str()) {
            return Ok(());
        }
        let places: BTreeMap<_, _> = durations
            .iter()
            .map(|(id, held)| (place(id), seconds(*held)))
            .collect();
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table.companion)
            .set_key(Some(item::key(PARTITION.to_owned(), lab.as_str())))
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":now", number(now.0))
            .expression_attribute_values(":ttl", number((now + RETENTION).0));
        let mut assignments = vec!["updated_at = :now, #ttl = :ttl".to_owned()];
        for (place, seconds) in places {
            let name = format!("{DURATION}{place:02}");
            assignments.push(format!("{name} = :{name}"));
            update = update.expression_attribute_values(format!(":{name}"), number(seconds));
        }
        let update = update.update_expression(format!("SET {}", assignments.join(", ")));
        match self.update_item(update).await {
            Ok(_) => Ok(()),
            Err(error) => Err(StoreError::from_sdk("UpdateItem", error)),
        }
    }

    /// Reads the histories of all labs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lab_histories(&self) -> Result<HashMap<LabId, LabHistory>, StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.table.companion)
            .limit(self.reads.page_of(ITEMS_PER_PAGE))
            .key_condition_expression("PK = :partition")
            .expression_attribute_values(":partition", string(PARTITION));
        let mut histories = HashMap::new();
        self.for_each(query, |item| histories.extend(read(&item)))
            .await?;
        Ok(histories)
    }
}

/// Returns the place of the duration of a sandbox, which is allocated once in its life.
fn place(id: &SandboxId) -> u16 {
    let digest = Sha256::digest(id.as_str());
    u16::from_be_bytes([digest[0], digest[1]]) % PLACES
}

fn seconds(held: Duration) -> i64 {
    i64::try_from(held.as_secs()).unwrap_or(i64::MAX)
}

/// Converts an item. An attribute that is no duration counts as absent.
fn read(item: &Item) -> Option<(LabId, LabHistory)> {
    let attributes = Attributes::of(item);
    let lab = LabId::stored(attributes.text("SK")?);
    let names = item.keys().filter(|name| name.starts_with(DURATION));
    let durations = names.filter_map(|name| u64::try_from(attributes.number(name)?).ok());
    let history = LabHistory {
        durations: durations.map(Duration::from_secs).collect(),
        updated_at: attributes.time("updated_at"),
    };
    Some((lab, history))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::corrupted;

    #[test]
    fn sandboxes_take_all_places_about_equally() {
        let mut taken = vec![0; usize::from(PLACES)];
        for number in 0..10_000 {
            taken[usize::from(place(&SandboxId::stored(format!("{}", 2_000_000 + number))))] += 1;
        }
        assert!(
            taken.iter().all(|count| (50..150).contains(count)),
            "{taken:?}"
        );
    }

    fn item() -> Item {
        let mut item = item::key(PARTITION.to_owned(), "dns-101");
        item.extend([
            ("d00".to_owned(), number(3000)),
            ("d99".to_owned(), number(60)),
            ("updated_at".to_owned(), number(1_774_000_000)),
        ]);
        item
    }

    #[test]
    fn history_reads_back() {
        let (lab, mut history) = read(&item()).unwrap();
        history.durations.sort_unstable();
        assert_eq!(lab.as_str(), "dns-101");
        assert_eq!(history.durations, [60, 3000].map(Duration::from_secs));
        assert_eq!(history.updated_at, Some(UnixSeconds(1_774_000_000)));
    }

    proptest! {
        #[test]
        fn any_item_is_a_history_or_none(item in corrupted(item())) {
            if let Some((_, history)) = read(&item) {
                prop_assert!(history.durations.len() <= 2);
                let _ = history.suspected_after();
            }
        }
    }
}
