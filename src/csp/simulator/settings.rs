//! The settings of the simulated CSP: its behaviour, apart from faults.

use std::time::Duration;

use axum::http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// The settings of a simulator. They are not part of its saved state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The time from the creation of an account over the API until it is listed.
    #[serde(rename = "listing_delay_sec", with = "seconds")]
    pub listing_delay: Duration,
    /// The time from the creation of an account over the API until it has groups.
    #[serde(rename = "usable_delay_sec", with = "seconds")]
    pub usable_delay: Duration,
    /// Other delays for some accounts. The first entry that names an account counts.
    pub accounts: Vec<AccountDelays>,
    /// The number of existing accounts from which on creations are rejected; no limit if `None`.
    pub max_accounts: Option<usize>,
    /// Rejects the creation of a second account of the same name with 409. CSP accepts it.
    pub unique_names: bool,
    /// The status code of answers to creations and switches.
    pub success: SuccessStatus,
    /// The form of lists of found accounts, groups, users, API keys and join tokens.
    pub lists: ListForm,
    /// The only operator that can sign in; anyone can if `None`, except with the password `wrong`. Users of accounts sign in
    /// with their own passwords.
    pub user: Option<SimulatedUser>,
}

/// The delays of some accounts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountDelays {
    /// The names of the accounts. One with a `*` at its end stands for all that begin alike.
    pub names: Vec<String>,
    /// The time until such an account is listed; that of all accounts if `None`.
    #[serde(rename = "listing_delay_sec", with = "optional_seconds")]
    pub listing_delay: Option<Duration>,
    /// The time until such an account has groups; that of all accounts if `None`.
    #[serde(rename = "usable_delay_sec", with = "optional_seconds")]
    pub usable_delay: Option<Duration>,
}

/// The status code of answers to creations and switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuccessStatus {
    /// 200 and 201 in turns, because CSP answers both.
    #[default]
    Alternating,
    /// 200.
    Ok,
    /// 201.
    Created,
}

impl SuccessStatus {
    /// Returns the status code of the answer with this number.
    pub(super) const fn of_answer(self, number: u64) -> StatusCode {
        match self {
            Self::Alternating if number.is_multiple_of(2) => StatusCode::OK,
            Self::Ok => StatusCode::OK,
            Self::Alternating | Self::Created => StatusCode::CREATED,
        }
    }
}

/// The form of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListForm {
    /// `{"results": [...]}`.
    #[default]
    Results,
    /// `{"result": [...]}`.
    Result,
    /// `[...]`.
    Bare,
}

/// A user that can sign in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatedUser {
    /// The e-mail address.
    pub email: String,
    /// The password, which is not shown.
    #[serde(skip_serializing)]
    pub password: SecretString,
}

impl Settings {
    pub(super) fn listing_delay_of(&self, name: &str) -> Duration {
        self.delay_of(name, |delays| delays.listing_delay)
            .unwrap_or(self.listing_delay)
    }

    pub(super) fn usable_delay_of(&self, name: &str) -> Duration {
        self.delay_of(name, |delays| delays.usable_delay)
            .unwrap_or(self.usable_delay)
    }

    fn delay_of(
        &self,
        name: &str,
        delay: impl Fn(&AccountDelays) -> Option<Duration>,
    ) -> Option<Duration> {
        self.accounts
            .iter()
            .filter(|delays| is_one_of(&delays.names, name))
            .find_map(delay)
    }

    /// Returns whether these credentials are those of a user.
    pub(super) fn accepts(&self, email: &str, password: &str) -> bool {
        match &self.user {
            Some(user) => user.email == email && user.password.expose_secret() == password,
            None => !email.is_empty() && !matches!(password, "" | "wrong"),
        }
    }
}

/// Returns whether `name` is one of `names`, of which one with a `*` at its end stands for all that begin alike.
pub(super) fn is_one_of(names: &[String], name: &str) -> bool {
    names.iter().any(|known| match known.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => known == name,
    })
}

/// Whole seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(span.as_secs())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_secs)
    }
}

/// Whole seconds, or null.
mod optional_seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde passes the field by reference")]
    pub(super) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        span.map(|span| span.as_secs()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::deserialize(from)?.map(Duration::from_secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_has_the_first_delays_that_name_it() {
        let delays = |names: &[&str], listing, usable| AccountDelays {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            listing_delay: listing,
            usable_delay: usable,
        };
        let (short, long) = (Duration::from_secs(1), Duration::from_hours(1));
        let settings = Settings {
            usable_delay: short,
            accounts: vec![
                delays(&["lab-r000002"], Some(short), None),
                delays(&["lab-*"], Some(long), Some(long)),
            ],
            ..Settings::default()
        };
        assert_eq!(settings.listing_delay_of("lab-r000002"), short);
        assert_eq!(settings.usable_delay_of("lab-r000002"), long);
        assert_eq!(settings.listing_delay_of("other"), Duration::ZERO);
        assert_eq!(settings.usable_delay_of("other"), short);
    }

    #[test]
    fn settings_are_shown_without_the_password() {
        let text = r#"{"listing_delay_sec": 60, "lists": "bare", "success": "created", "max_accounts": 9,
            "accounts": [{"names": ["a"], "usable_delay_sec": 5}], "user": {"email": "a@b", "password": "hunter2"}}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        assert!(settings.accepts("a@b", "hunter2") && !settings.accepts("a@b", "hunter3"));
        let shown = serde_json::to_value(&settings).unwrap();
        assert_eq!(shown["listing_delay_sec"], 60);
        assert_eq!(
            shown["accounts"][0]["listing_delay_sec"],
            serde_json::Value::Null
        );
        assert_eq!(shown["user"], serde_json::json!({"email": "a@b"}));
        assert!(serde_json::from_str::<Settings>(r#"{"listing_delay": 60}"#).is_err());
    }
}
