//! Listings of sandboxes for operators, with cursors.

use super::{
    PoolStore, Position, StoreError, UnreadableItem,
    item::{Item, SANDBOX_PREFIX, SANDBOX_SORT, string},
    scan::ITEMS_PER_PAGE,
};
use crate::domain::{Sandbox, Status};

/// A page of a listing.
#[derive(Debug, Default)]
pub struct Listing {
    /// The sandboxes on the page.
    pub sandboxes: Vec<Sandbox>,
    /// The unreadable items on the page.
    pub unreadable: Vec<UnreadableItem>,
    /// Start of the next page; `None` at the end of the listing.
    pub next: Option<Position>,
}

impl Listing {
    fn len(&self) -> usize {
        self.sandboxes.len() + self.unreadable.len()
    }
}

/// An item of a listing: a sandbox, or an unreadable item.
pub type Listed = Result<Sandbox, UnreadableItem>;

/// The maximum number of table pages read for one page of a listing without a search. The cursor continues after them.
const TABLE_PAGES_PER_PAGE: i32 = 8;
/// The maximum number of items that a search reads for one page of a listing. The cursor continues after them.
const ITEMS_PER_SEARCH: i32 = 32 * 1024;

impl PoolStore {
    /// Returns a page of at most `limit` items from `start` on, filtered by `search`. A page may be shorter
    /// although there are more sandboxes; the listing ends only with a page without [`next`](Listing::next).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(
        &self,
        status: Option<Status>,
        limit: usize,
        start: Option<Position>,
        search: Option<impl Fn(&Listed) -> bool + Send + Sync>,
    ) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        let mut start = start.map(Position::into_key);
        let largest = self.reads.page_of(ITEMS_PER_PAGE);
        // A search discards most items, so it reads pages of the maximum size.
        let (page_size, pages) = if search.is_none() {
            let limit = i32::try_from(limit).unwrap_or(largest);
            (limit.min(largest), TABLE_PAGES_PER_PAGE)
        } else {
            (largest, ITEMS_PER_SEARCH / largest)
        };
        for _ in 0..pages {
            let (items, next) = self.list_page(status, page_size, start.take()).await?;
            for item in items {
                if listing.len() == limit {
                    return Ok(listing);
                }
                let position = Position::of(&item, status);
                let listed = self.read_listed(item);
                if search.as_ref().is_none_or(|search| search(&listed)) {
                    match listed {
                        Ok(sandbox) => listing.sandboxes.push(sandbox),
                        Err(item) => listing.unreadable.push(item),
                    }
                    listing.next = position;
                }
            }
            listing.next = next.as_ref().and_then(|key| Position::of(key, status));
            if next.is_none() {
                break;
            }
            start = next;
            if listing.len() == limit {
                break;
            }
        }
        Ok(listing)
    }

    /// Converts an item of the pool.
    pub(super) fn read_listed(&self, item: Item) -> Listed {
        self.read(&item)
            .map_err(|fault| UnreadableItem::new(item, &fault))
    }

    async fn list_page(
        &self,
        status: Option<Status>,
        page_size: i32,
        start: Option<Item>,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let _permit = self.reads.page_permit().await;
        if let Some(status) = status {
            let query = self
                .by_status(status)
                .limit(page_size)
                .set_exclusive_start_key(start);
            let page = query
                .send()
                .await
                .map_err(|error| StoreError::from_sdk("Query", error))?;
            return Ok((page.items.unwrap_or_default(), page.last_evaluated_key));
        }
        let page = self
            .client
            .scan()
            .table_name(&self.table.name)
            .filter_expression("SK = :meta AND begins_with(PK, :sandbox)")
            .expression_attribute_values(":meta", string(SANDBOX_SORT))
            .expression_attribute_values(":sandbox", string(SANDBOX_PREFIX))
            .limit(page_size)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("Scan", error))?;
        Ok((page.items.unwrap_or_default(), page.last_evaluated_key))
    }
}
