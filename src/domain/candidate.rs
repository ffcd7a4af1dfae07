//! A sandbox that may be available, with all that an allocation needs to know of it.

use super::{Account, NamePrefix, SandboxId};

/// What an allocation needs to know of a sandbox before it has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// The account's name; first, because candidates are kept in the order of their names.
    pub name: Box<str>,
    /// The sandbox's id.
    pub id: SandboxId,
    /// CSP's resource id.
    pub external_id: Box<str>,
    /// The Salesforce account, where CSP knows one.
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
    /// Whether its name has the prefix.
    #[must_use]
    pub fn matches(&self, prefix: Option<&NamePrefix>) -> bool {
        prefix.is_none_or(|prefix| self.name.starts_with(prefix.as_str()))
    }
}
