//! Candidates: sandboxes that a broker believes available.

use super::{Account, NamePrefix, SandboxId};

/// The attributes of a sandbox that an allocation needs: it answers with them and requires them unchanged in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The account's name.
    pub name: Box<str>,
    /// The sandbox's id.
    pub id: SandboxId,
    /// CSP's resource id of the account.
    pub external_id: Box<str>,
    /// The id of the Salesforce account, if CSP lists one.
    pub sfdc_account_id: Option<Box<str>>,
}

impl From<&Account> for Candidate {
    fn from(account: &Account) -> Self {
        Self {
            name: account.name.as_str().into(),
            id: account.sandbox_id.clone(),
            external_id: account.external_id.as_str().into(),
            sfdc_account_id: account.sfdc_account_id.as_deref().map(Into::into),
        }
    }
}

impl Candidate {
    /// Returns whether the name starts with `prefix`; `None` matches every name.
    #[must_use]
    pub fn matches(&self, prefix: Option<&NamePrefix>) -> bool {
        prefix.is_none_or(|prefix| self.name.starts_with(prefix.as_str()))
    }
}
