//! The list of accounts, as CSP answers it.

use std::collections::HashSet;

use serde_json::{Value, value::RawValue};

use super::http::uuid_of;
use crate::{
    clock::UnixSeconds,
    domain::{Account, SandboxId},
};

/// The longest text of an account that is accepted, in bytes. DynamoDB rejects items over 400 KB, and transactions that
/// contain one.
const MAX_TEXT: usize = 1024;

/// The accounts that CSP lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountList {
    /// Active sandbox accounts in the order of the list, which may repeat an account or an id.
    pub accounts: Vec<Account>,
    /// The `csp_id`s of entries that are no accounts for the pool. Their sandboxes are listed, so they are not stale.
    pub other_ids: HashSet<SandboxId>,
    /// The external ids of these entries.
    pub other_external_ids: HashSet<String>,
    /// The number of invalid entries, which were skipped.
    pub skipped: usize,
    /// The number of entries skipped because CSP has not given the account a `csp_id` yet.
    pub unnumbered: usize,
    /// Why accounts are missing from the list, if it is known to be incomplete.
    pub incomplete: Option<String>,
}

/// The reason why an active sandbox account cannot be pooled.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// No `csp_id`, or one below 1: CSP is still creating the account.
    Unnumbered,
    /// An attribute is missing or cannot be used.
    Invalid(String),
}

impl AccountList {
    /// Adds entries. Invalid ones are skipped.
    pub(super) fn add(&mut self, entries: &[Box<RawValue>]) {
        for entry in entries {
            // The entry is valid JSON, but its numbers may be out of range, or its depth.
            let entry: Value = serde_json::from_str(entry.get()).unwrap_or_default();
            let fault = match read_entry(&entry) {
                Ok(account) => {
                    self.accounts.extend(account);
                    continue;
                }
                Err(fault) => fault,
            };
            let id = read_id(&entry["csp_id"]).ok();
            let external_id = text(&entry, "id");
            match fault {
                Fault::Unnumbered => self.unnumbered += 1,
                Fault::Invalid(fault) => {
                    tracing::warn!(
                        csp_id = id.as_ref().map(SandboxId::as_str),
                        external_id,
                        fault,
                        "invalid CSP account skipped"
                    );
                    self.skipped += 1;
                }
            }
            self.other_external_ids
                .extend(external_id.map(ToOwned::to_owned));
            self.other_ids.extend(id);
        }
    }
}

/// Converts an entry. Returns `None` for an account that is not an active sandbox.
fn read_entry(entry: &Value) -> Result<Option<Account>, Fault> {
    if required(entry, "account_type")? != "sandbox" || required(entry, "state")? != "active" {
        return Ok(None);
    }
    let sandbox_id = read_id(&entry["csp_id"])?;
    let external_id = required(entry, "id")?;
    // An account with any other external id could not be deleted.
    uuid_of(external_id).map_err(|fault| Fault::Invalid(fault.to_string()))?;
    Ok(Some(Account {
        sandbox_id,
        name: required(entry, "name")?.to_owned(),
        external_id: external_id.to_owned(),
        sfdc_account_id: text(entry, "sfdc_account_id")
            .filter(|sfdc| sfdc.len() <= MAX_TEXT)
            .map(ToOwned::to_owned),
        created_at: text(entry, "created_at")
            .and_then(|at| at.parse().ok())
            .map(|at: jiff::Timestamp| UnixSeconds(at.as_second())),
    }))
}

/// Returns an attribute without the white space around it, if it is a text that is not empty.
fn text<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    let text = entry.get(name)?.as_str()?.trim();
    (!text.is_empty()).then_some(text)
}

fn required<'a>(entry: &'a Value, name: &str) -> Result<&'a str, Fault> {
    let text = text(entry, name)
        .ok_or_else(|| Fault::Invalid(format!("{name} is missing, empty or not a text")))?;
    if text.len() > MAX_TEXT {
        return Err(Fault::Invalid(format!(
            "{name} is longer than {MAX_TEXT} bytes"
        )));
    }
    Ok(text)
}

/// Reads a `csp_id`, which is a positive number.
fn read_id(csp_id: &Value) -> Result<SandboxId, Fault> {
    let id = match csp_id {
        Value::Null => return Err(Fault::Unnumbered),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return Err(Fault::Invalid("csp_id is no number".to_owned())),
    };
    if id.is_empty() || id.parse().is_ok_and(|number: f64| number < 1.0) {
        return Err(Fault::Unnumbered);
    }
    SandboxId::parse(id).map_err(|fault| Fault::Invalid(format!("csp_id {fault}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use serde_json::json;

    use super::*;
    use crate::arbitrary::json;

    fn read(entries: Vec<Value>) -> AccountList {
        let answer = Value::from(entries).to_string();
        let mut list = AccountList::default();
        list.add(&serde_json::from_str::<Vec<_>>(&answer).unwrap());
        list
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

    fn sorted(ids: &HashSet<SandboxId>) -> Vec<&str> {
        let mut ids: Vec<_> = ids.iter().map(SandboxId::as_str).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn csp_id_of_an_account_is_the_sandbox_id() {
        let list = read(vec![entry(2_009_521), entry(" 2009522 ")]);
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
            with(entry(0), "account_type", json!("standard")),
        ]);
        assert_eq!(list, AccountList::default());
    }

    #[test]
    fn invalid_entries_are_skipped_and_counted() {
        let list = read(vec![
            entry(1),
            json!("nonsense"),
            json!(null),
            with(entry(2), "name", json!(null)),
            with(entry(3), "name", json!("  ")),
            with(entry(4), "state", json!(7)),
            entry(json!({"no": "id"})),
            entry("an id with a\ttab"),
        ]);
        assert_eq!((list.accounts.len(), list.skipped), (1, 7));
        assert_eq!(sorted(&list.other_ids), ["2", "3", "4"]);
        assert_eq!(list.other_external_ids.len(), 1);
    }

    #[test]
    fn account_without_a_positive_csp_id_is_not_an_account_yet() {
        let mut without = entry(1);
        without.as_object_mut().unwrap().remove("csp_id");
        let ids = [
            json!(null),
            json!(0),
            json!(-7),
            json!(0.0),
            json!("0"),
            json!("-1"),
            json!(" "),
        ];
        let list = read(ids.into_iter().map(entry).chain([without]).collect());
        assert_eq!(
            (list.accounts.len(), list.skipped, list.unnumbered),
            (0, 0, 8)
        );
        assert!(list.other_ids.is_empty());
        assert!(list.other_external_ids.contains("identity/accounts/3f2a"));
    }

    #[test]
    fn account_with_an_external_id_that_is_no_path_segment_is_skipped() {
        for id in [
            "identity/accounts/",
            "a/..",
            "a/b?c=d",
            "a/b c",
            "a/%2e",
            "a/b#c",
            "é",
        ] {
            let list = read(vec![with(entry(1), "id", json!(id))]);
            assert_eq!((list.accounts.len(), list.skipped), (0, 1), "{id}");
        }
    }

    #[test]
    fn unusable_optional_attribute_is_left_out() {
        for value in [
            json!(123),
            json!({}),
            json!(null),
            json!("yesterday, or so"),
            json!("x".repeat(1025)),
        ] {
            let list = read(vec![
                with(entry(1), "created_at", value.clone()),
                with(entry(2), "sfdc_account_id", value.clone()),
            ]);
            assert_eq!(
                (list.accounts.len(), list.accounts[0].created_at),
                (2, None),
                "{value}"
            );
            let sfdc = list.accounts[1].sfdc_account_id.as_deref();
            assert_eq!(sfdc, value.as_str().filter(|text| text.len() < 1025));
        }
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
            let list = read(entries);
            let others = list.skipped + list.unnumbered;
            prop_assert!(list.accounts.len() + others <= count);
            prop_assert!(list.other_ids.len() <= others && list.other_external_ids.len() <= others);
            for account in &list.accounts {
                prop_assert!((1..=MAX_TEXT).contains(&account.name.len()));
                prop_assert!((1..=MAX_TEXT).contains(&account.external_id.len()));
                prop_assert!(uuid_of(&account.external_id).is_ok());
                prop_assert!(account.sandbox_id.as_str().parse().is_ok_and(|id: f64| id >= 1.0)
                    || account.sandbox_id.as_str().parse::<f64>().is_err());
                prop_assert_eq!(account.name.trim(), &account.name);
                if let Some(sfdc) = &account.sfdc_account_id {
                    prop_assert!((1..=MAX_TEXT).contains(&sfdc.len()));
                }
            }
        }
    }
}
