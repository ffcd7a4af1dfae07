//! The list of accounts, as CSP answers it.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::Value;

use crate::{
    clock::UnixSeconds,
    domain::{Account, SandboxId},
};

/// The longest name or id of an account that is accepted, in bytes. DynamoDB rejects items over 400 KB, and
/// transactions that contain one.
const MAX_TEXT: usize = 1024;

/// The accounts that CSP lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountList {
    /// Active sandbox accounts with distinct ids.
    pub accounts: Vec<Account>,
    /// The ids of invalid entries with a valid id. Their sandboxes are listed, so they are not stale.
    pub broken: HashSet<SandboxId>,
    /// The number of invalid entries, which were skipped.
    pub skipped: usize,
    /// The number of entries skipped because an earlier entry has the same id.
    pub duplicates: usize,
}

/// The body of the answer.
#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "read_entries")]
    results: AccountList,
}

/// An entry of the list, as far as the broker uses it.
#[derive(Deserialize)]
struct Entry {
    id: String,
    name: String,
    csp_id: Value,
    account_type: String,
    state: String,
    created_at: Option<String>,
    sfdc_account_id: Option<String>,
}

/// Reads the entries one by one: as JSON values, all of them would take several times the memory of the answer.
fn read_entries<'de, D: Deserializer<'de>>(answer: D) -> Result<AccountList, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = AccountList;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of accounts")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<AccountList, A::Error> {
            let mut list = AccountList::default();
            let mut seen = HashSet::new();
            while let Some(entry) = entries.next_element()? {
                list.add(entry, &mut seen);
            }
            Ok(list)
        }
    }

    answer.deserialize_seq(Entries)
}

impl AccountList {
    /// Parses the body of an answer.
    ///
    /// # Errors
    /// The body is not a JSON object with a list of `results`. Invalid entries are skipped.
    pub(super) fn parse(body: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice::<Answer>(body).map(|answer| answer.results)
    }

    fn add(&mut self, entry: Value, seen: &mut HashSet<SandboxId>) {
        let id = entry.get("csp_id").and_then(read_id);
        match read_entry(entry) {
            Ok(None) => {}
            Ok(Some(account)) if seen.insert(account.sandbox_id.clone()) => {
                self.accounts.push(account);
            }
            Ok(Some(_)) => self.duplicates += 1,
            Err(fault) => {
                tracing::warn!(
                    csp_id = id.as_ref().map(SandboxId::as_str),
                    fault,
                    "invalid CSP account skipped"
                );
                self.skipped += 1;
                self.broken.extend(id);
            }
        }
    }
}

/// Converts an entry. Returns `None` for an account that is not an active sandbox.
fn read_entry(entry: Value) -> Result<Option<Account>, String> {
    let entry: Entry = serde_json::from_value(entry).map_err(|fault| fault.to_string())?;
    if entry.account_type != "sandbox" || entry.state != "active" {
        return Ok(None);
    }
    let name = entry.name.trim();
    if name.is_empty() || entry.id.trim().is_empty() {
        return Err("the name or the id is empty".to_owned());
    }
    if name.len() > MAX_TEXT || entry.id.len() > MAX_TEXT {
        return Err(format!(
            "the name or the id is longer than {MAX_TEXT} bytes"
        ));
    }
    let sfdc = entry.sfdc_account_id.filter(|sfdc| !sfdc.is_empty());
    if sfdc.as_ref().is_some_and(|sfdc| sfdc.len() > MAX_TEXT) {
        return Err(format!(
            "the Salesforce account's id is longer than {MAX_TEXT} bytes"
        ));
    }
    Ok(Some(Account {
        sandbox_id: read_id(&entry.csp_id).ok_or("csp_id is neither a number nor a valid id")?,
        name: name.to_owned(),
        external_id: entry.id.trim().to_owned(),
        sfdc_account_id: sfdc,
        created_at: entry
            .created_at
            .and_then(|at| at.parse().ok())
            .map(|at: jiff::Timestamp| UnixSeconds(at.as_second())),
    }))
}

fn read_id(csp_id: &Value) -> Option<SandboxId> {
    match csp_id {
        Value::Number(number) => SandboxId::parse(number.to_string()).ok(),
        Value::String(text) => SandboxId::parse(text).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use serde_json::json;

    use super::*;
    use crate::arbitrary::json;

    fn read(entries: Vec<Value>) -> AccountList {
        read_entries(Value::from(entries)).unwrap()
    }

    fn entry(csp_id: impl Into<Value>) -> Value {
        let csp_id = csp_id.into();
        json!({
            "id": "identity/accounts/3f2a", "name": "lab-adventure-0087", "csp_id": csp_id,
            "account_type": "sandbox", "state": "active", "created_at": "2025-03-27T16:53:47.605459Z",
        })
    }

    fn with(mut entry: Value, name: &str, value: Value) -> Value {
        entry[name] = value;
        entry
    }

    #[test]
    fn csp_id_of_an_account_is_the_sandbox_id() {
        let list = read(vec![entry(2_009_521), entry("2009522")]);
        let ids: Vec<_> = list
            .accounts
            .iter()
            .map(|account| account.sandbox_id.as_str())
            .collect();
        assert_eq!(ids, ["2009521", "2009522"]);
        assert_eq!(list.accounts[0].external_id, "identity/accounts/3f2a");
        assert_eq!(
            list.accounts[0].created_at,
            Some(UnixSeconds(1_743_094_427))
        );
    }

    #[test]
    fn only_active_sandboxes_are_listed() {
        let list = read(vec![
            with(entry(1), "state", json!("disabled")),
            with(entry(2), "account_type", json!("standard")),
        ]);
        assert_eq!(list, AccountList::default());
    }

    #[test]
    fn invalid_and_duplicate_entries_are_skipped_and_counted() {
        let list = read(vec![
            entry(1),
            entry(1),
            json!("nonsense"),
            json!(null),
            with(entry(2), "name", json!(null)),
            with(entry(3), "name", json!("  ")),
            with(entry(4), "sfdc_account_id", json!("x".repeat(1025))),
            entry(json!({"no": "id"})),
            entry("an id with spaces"),
        ]);
        assert_eq!(
            (list.accounts.len(), list.duplicates, list.skipped),
            (1, 1, 7)
        );
        let mut broken: Vec<_> = list.broken.iter().map(SandboxId::as_str).collect();
        broken.sort_unstable();
        assert_eq!(broken, ["2", "3", "4"]);
    }

    #[test]
    fn unreadable_creation_time_is_left_out() {
        let list = read(vec![with(entry(1), "created_at", json!("yesterday"))]);
        assert_eq!(list.accounts[0].created_at, None);
    }

    /// An entry as CSP sends it, with up to two of its values replaced.
    fn corrupted_entry() -> impl Strategy<Value = Value> {
        let names = [
            "id",
            "name",
            "csp_id",
            "account_type",
            "state",
            "created_at",
            "sfdc_account_id",
        ];
        let value = prop_oneof![
            json(),
            (0_usize..3000).prop_map(|length| "x".repeat(length).into())
        ];
        let change = (proptest::sample::select(names.to_vec()), value);
        (0_u32..20, proptest::collection::vec(change, 0..3)).prop_map(|(id, changes)| {
            let mut entry = entry(id);
            for (name, value) in changes {
                entry[name] = value;
            }
            entry
        })
    }

    proptest! {
        #[test]
        fn any_list_yields_only_accounts_within_the_bounds(
            entries in proptest::collection::vec(prop_oneof![4 => corrupted_entry(), 1 => json()], 0..30)
        ) {
            let count = entries.len();
            let list = read_entries(Value::from(entries)).unwrap();
            prop_assert!(list.accounts.len() + list.skipped + list.duplicates <= count);
            prop_assert!(list.broken.len() <= list.skipped);
            let ids: HashSet<_> = list.accounts.iter().map(|account| &account.sandbox_id).collect();
            prop_assert_eq!(ids.len(), list.accounts.len(), "ids are distinct");
            for account in &list.accounts {
                prop_assert!((1..=MAX_TEXT).contains(&account.name.len()));
                prop_assert!((1..=MAX_TEXT).contains(&account.external_id.len()));
                prop_assert_eq!(account.name.trim(), &account.name);
                if let Some(sfdc) = &account.sfdc_account_id {
                    prop_assert!((1..=MAX_TEXT).contains(&sfdc.len()));
                }
            }
        }

        #[test]
        fn any_answer_is_parsed_or_rejected(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let text = String::from_utf8_lossy(&bytes);
            for answer in [text.to_string(), format!(r#"{{"results": [{text}]}}"#)] {
                if let Ok(answer) = serde_json::from_str::<Answer>(&answer) {
                    prop_assert!(answer.results.broken.len() <= answer.results.skipped);
                }
            }
        }

    }

    #[test]
    fn deeply_nested_answer_is_an_error() {
        let deep = format!(r#"{{"results": {}"#, "[".repeat(1 << 20));
        assert!(serde_json::from_str::<Answer>(&deep).is_err());
    }
}
