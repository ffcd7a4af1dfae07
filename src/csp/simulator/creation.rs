//! Creations of accounts over the API.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The request that creates an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAccount {
    /// The name.
    pub name: String,
    /// A description.
    #[serde(default)]
    pub description: String,
    /// The state; `active` by default, and for an account that is to be pooled.
    #[serde(default = "active")]
    pub state: String,
    /// Tags.
    #[serde(default)]
    pub tags: Map<String, Value>,
    /// The first user of the account.
    #[serde(default)]
    pub admin_user: AdminUser,
}

/// The first user of a created account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminUser {
    /// The e-mail address.
    pub email: String,
    /// The name.
    #[serde(default)]
    pub name: String,
}

fn active() -> String {
    "active".to_owned()
}

impl NewAccount {
    /// Creates a request for an active account of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: active(),
            ..Self::default()
        }
    }
}

/// An account that was created over the API, whether or not it still exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CreatedAccount {
    /// Its resource id.
    pub id: String,
    /// Its numeric id.
    pub csp_id: u64,
    /// When it was created, in milliseconds since 1970 by the simulator's time.
    pub created_ms: i64,
    /// Whether it was deleted.
    pub is_deleted: bool,
    /// The request that created it.
    #[serde(flatten)]
    pub request: NewAccount,
}
