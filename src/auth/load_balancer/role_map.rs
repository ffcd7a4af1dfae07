//! The mapping of people to roles, by their groups and e-mail addresses.

use std::fmt;

use crate::domain::{Role, Roles};

/// The form of a list of entries.
pub(crate) const ROLE_ENTRIES: &str = "entries such as group:platform-team, email:jo@example.com, group:* or email:*, separated by commas";

/// The people who have each role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleMap {
    /// `ALB_OIDC_ADMINS`.
    pub admins: RoleEntries,
    /// `ALB_OIDC_OPERATORS`.
    pub operators: RoleEntries,
    /// `ALB_OIDC_VIEWERS`.
    pub viewers: RoleEntries,
}

impl RoleMap {
    /// Returns the roles of a person with this e-mail address, in lower case, and these groups. Never `track`:
    /// sandboxes belong to plays.
    pub(super) fn roles_of(&self, email: Option<&str>, groups: &[&str]) -> Roles {
        [
            (&self.admins, Role::Admin),
            (&self.operators, Role::Operator),
            (&self.viewers, Role::Viewer),
        ]
        .into_iter()
        .filter(|(entries, _)| entries.name(email, groups))
        .fold(Roles::default(), |roles, (_, role)| roles.with(role))
    }

    /// Whether nobody has a role.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [&self.admins, &self.operators, &self.viewers]
            .iter()
            .all(|entries| entries.0.is_empty())
    }
}

/// The people who have one role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleEntries(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// Everybody in a group; in any, if it is `None`.
    Group(Option<String>),
    /// The person with an e-mail address in lower case; everybody with one, if it is `None`.
    Email(Option<String>),
}

impl RoleEntries {
    /// Reads entries separated by commas; `None` if one of them has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let entries = text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(Entry::parse);
        entries.collect::<Option<_>>().map(Self)
    }

    fn name(&self, email: Option<&str>, groups: &[&str]) -> bool {
        self.0.iter().any(|entry| match entry {
            Entry::Group(None) => !groups.is_empty(),
            Entry::Group(Some(group)) => groups.contains(&group.as_str()),
            Entry::Email(None) => email.is_some(),
            Entry::Email(Some(address)) => email == Some(address),
        })
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let (kind, value) = text.split_once(':')?;
        let value = Some(value.trim()).filter(|value| !value.is_empty())?;
        let specific = Some(value).filter(|value| *value != "*");
        match kind.trim() {
            "group" => Some(Self::Group(specific.map(str::to_owned))),
            // An address without an @ names nobody.
            "email" if specific.is_none_or(|address| address.contains('@')) => {
                Some(Self::Email(specific.map(str::to_ascii_lowercase)))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, value) = match self {
            Self::Group(value) => ("group", value),
            Self::Email(value) => ("email", value),
        };
        write!(f, "{kind}:{}", value.as_deref().unwrap_or("*"))
    }
}

impl fmt::Display for RoleEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("(none)");
        }
        let entries: Vec<_> = self.0.iter().map(Entry::to_string).collect();
        f.write_str(&entries.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(admins: &str, operators: &str, viewers: &str) -> RoleMap {
        let parse = |text| RoleEntries::parse(text).unwrap();
        RoleMap {
            admins: parse(admins),
            operators: parse(operators),
            viewers: parse(viewers),
        }
    }

    fn highest(roles: Roles) -> Option<Role> {
        [Role::Admin, Role::Operator, Role::Viewer]
            .into_iter()
            .find(|role| roles.include(*role))
    }

    #[test]
    fn person_has_the_roles_of_the_entries_that_name_them() {
        let map = map("email:Jo@example.com", "group:platform team", "group:*");
        for (email, groups, role) in [
            (Some("jo@example.com"), &[][..], Some(Role::Admin)),
            (
                Some("jo@example.com"),
                &["platform team"],
                Some(Role::Admin),
            ),
            (None, &["other", "platform team"], Some(Role::Operator)),
            (None, &["Platform Team"], Some(Role::Viewer)),
            (Some("joe@example.com"), &[], None),
            (None, &[], None),
        ] {
            let roles = map.roles_of(email, groups);
            assert_eq!(highest(roles), role, "{email:?} {groups:?}");
            assert!(!roles.include(Role::Track));
        }
    }

    #[test]
    fn everybody_with_an_address_can_be_named() {
        let map = map("", "", "email:*");
        assert_eq!(highest(map.roles_of(Some("a@b"), &[])), Some(Role::Viewer));
        assert_eq!(highest(map.roles_of(None, &["email:*"])), None);
    }

    #[test]
    fn entries_are_read_and_shown() {
        let text = " group:a b ,, email:Jo@Example.com,group:*,email:* ";
        let entries = RoleEntries::parse(text).unwrap();
        let shown = "group:a b,email:jo@example.com,group:*,email:*";
        assert_eq!(entries.to_string(), shown);
        assert_eq!(RoleEntries::parse(shown), Some(entries));
        assert_eq!(RoleEntries::default().to_string(), "(none)");
        for invalid in [
            "jo@example.com",
            "group:",
            "email: ",
            "email:jo",
            "role:a",
            "*",
            "group",
        ] {
            assert_eq!(RoleEntries::parse(invalid), None, "{invalid}");
        }
        assert!(map("", "", "").is_empty() && !map("", "", "group:a").is_empty());
    }
}
