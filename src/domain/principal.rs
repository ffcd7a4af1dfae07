//! Principals: the identities behind requests, and their roles.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{LabId, NamePrefix, Sandbox, TokenId};
use crate::clock::UnixSeconds;

/// The role of a principal, which decides the endpoints it may call.
///
/// The order is that of the administrative roles: each includes those before it, except for `track`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Allocates, looks up and releases sandboxes, for the scripts of labs.
    Track,
    /// Reads the state of the pool.
    Viewer,
    /// A viewer that also starts jobs, acts on single sandboxes, and pauses activities.
    Operator,
    /// An operator that also manages tokens, and removes sandboxes in bulk.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Track, Self::Viewer, Self::Operator, Self::Admin];

    /// Returns the name used in the table and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let mut all = Self::ALL.into_iter();
        all.find(|role| role.as_str() == name).ok_or(())
    }
}

/// The roles of one principal: `track`, an administrative role, or both. A token that is configured for both has both,
/// as in the FastAPI service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    is_track: bool,
    administrative: Option<Role>,
}

impl Roles {
    /// Adds a role.
    #[must_use]
    pub fn with(self, role: Role) -> Self {
        match role {
            Role::Track => Self {
                is_track: true,
                ..self
            },
            Role::Viewer | Role::Operator | Role::Admin => Self {
                administrative: self.administrative.max(Some(role)),
                ..self
            },
        }
    }

    /// Returns whether these roles suffice where `role` is required.
    #[must_use]
    pub fn include(self, role: Role) -> bool {
        match role {
            Role::Track => self.is_track,
            Role::Viewer | Role::Operator | Role::Admin => self.administrative >= Some(role),
        }
    }

    /// Returns the administrative role.
    #[must_use]
    pub const fn administrative(self) -> Option<Role> {
        self.administrative
    }

    /// Returns the administrative role, or else `track` if it is present.
    #[must_use]
    pub fn highest(self) -> Option<Role> {
        self.administrative
            .or_else(|| self.is_track.then_some(Role::Track))
    }

    /// Returns whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.is_track && self.administrative.is_none()
    }
}

impl From<Role> for Roles {
    fn from(role: Role) -> Self {
        Self::default().with(role)
    }
}

/// Why an allocation is outside of the bounds of its principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutOfBounds {
    /// The principal is bound to labs, and the request names none.
    NoLab,
    /// The request names another lab.
    OtherLab,
    /// The principal is bound to name prefixes, and neither the request nor the policy of its lab names one.
    NoPrefix,
    /// The request names another prefix.
    OtherPrefix,
    /// The request names no prefix, and that of its lab in the policy is another one.
    PrefixOfLab(NamePrefix),
}

/// The labs and name prefixes that a track principal is bound to. An empty list binds to none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The labs that it may allocate for.
    pub labs: Vec<String>,
    /// Beginnings of the name prefixes that its allocations may have.
    pub name_prefixes: Vec<String>,
}

impl Bounds {
    /// Returns whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.labs.is_empty() && self.name_prefixes.is_empty()
    }

    /// Returns whether an allocation may be for `lab`.
    #[must_use]
    pub fn allow_lab(&self, lab: Option<&LabId>) -> bool {
        self.labs.is_empty()
            || lab.is_some_and(|lab| self.labs.iter().any(|allowed| allowed == lab.as_str()))
    }

    /// Returns whether an allocation may have `prefix`.
    #[must_use]
    pub fn allow_prefix(&self, prefix: Option<&NamePrefix>) -> bool {
        self.name_prefixes.is_empty()
            || prefix.is_some_and(|prefix| self.allow_name(prefix.as_str()))
    }

    /// Returns the name prefix of an allocation: the `requested` one, or else that of its lab.
    ///
    /// # Errors
    /// [`OutOfBounds`] if the lab or that prefix is outside of the bounds.
    pub fn prefix_within<'a>(
        &self,
        lab: Option<&LabId>,
        requested: Option<&'a NamePrefix>,
        of_lab: Option<&'a NamePrefix>,
    ) -> Result<Option<&'a NamePrefix>, OutOfBounds> {
        if !self.allow_lab(lab) {
            return Err(lab.map_or(OutOfBounds::NoLab, |_| OutOfBounds::OtherLab));
        }
        let prefix = requested.or(of_lab);
        if self.allow_prefix(prefix) {
            return Ok(prefix);
        }
        Err(match (requested, of_lab) {
            (Some(_), _) => OutOfBounds::OtherPrefix,
            (None, Some(of_lab)) => OutOfBounds::PrefixOfLab(of_lab.clone()),
            (None, None) => OutOfBounds::NoPrefix,
        })
    }

    fn allow_name(&self, name: &str) -> bool {
        let mut allowed = self.name_prefixes.iter();
        allowed.any(|prefix| name.starts_with(prefix.as_str()))
    }

    /// Returns whether a sandbox is within the bounds: its holder's lab and its name are.
    #[must_use]
    pub fn allow_sandbox(&self, sandbox: &Sandbox) -> bool {
        let name = &sandbox.account.name;
        self.allow_lab(sandbox.lab()) && (self.name_prefixes.is_empty() || self.allow_name(name))
    }
}

/// The named token behind a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedToken {
    /// Its id.
    pub id: TokenId,
    /// When it expires.
    pub expires_at: Option<UnixSeconds>,
}

/// The identity behind a request. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The human-readable name: that of a token, or of a person who signed in.
    pub name: Arc<str>,
    /// Its roles.
    pub roles: Roles,
    /// The bounds of its track role.
    pub bounds: Arc<Bounds>,
    /// Its named token, if it has one.
    pub token: Option<IssuedToken>,
}

impl Principal {
    /// Creates a principal without bounds and without a named token.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, roles: Roles) -> Self {
        Self {
            name: name.into(),
            roles,
            bounds: Arc::default(),
            token: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administrative_role_includes_those_before_it() {
        for (role, included) in [
            (Role::Track, &[Role::Track][..]),
            (Role::Viewer, &[Role::Viewer]),
            (Role::Operator, &[Role::Viewer, Role::Operator]),
            (Role::Admin, &[Role::Viewer, Role::Operator, Role::Admin]),
        ] {
            let includes = |other: &Role| Roles::from(role).include(*other);
            let found: Vec<_> = Role::ALL.into_iter().filter(includes).collect();
            assert_eq!(found, included, "{role}");
        }
        assert!(
            !Role::ALL
                .into_iter()
                .any(|role| Roles::default().include(role))
        );
    }

    #[test]
    fn highest_administrative_role_counts() {
        let roles = Roles::from(Role::Admin)
            .with(Role::Viewer)
            .with(Role::Track);
        assert_eq!(roles.administrative(), Some(Role::Admin));
        assert!(roles.include(Role::Track));
    }

    #[test]
    fn every_role_name_parses_back() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
    }

    #[test]
    fn bounds_allow_only_the_labs_and_prefixes_in_them() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let bounds = |labs: &[&str], prefixes: &[&str]| Bounds {
            labs: texts(labs),
            name_prefixes: texts(prefixes),
        };
        let lab = |text| LabId::parse(text).unwrap();
        let prefix = |text| NamePrefix::parse(text).unwrap();
        let both = bounds(&["a", "b"], &["lab-", "x"]);
        assert!(both.allow_lab(Some(&lab("b"))));
        assert!(!both.allow_lab(Some(&lab("ab"))));
        assert!(!both.allow_lab(None));
        assert!(both.allow_prefix(Some(&prefix("lab-adventure"))));
        assert!(both.allow_prefix(Some(&prefix("lab-"))));
        assert!(!both.allow_prefix(Some(&prefix("lab"))));
        assert!(!both.allow_prefix(None));
        let none = Bounds::default();
        assert_eq!(none.prefix_within(None, None, None), Ok(None));
        assert!(none.allow_lab(None) && none.allow_prefix(None));
        assert!(bounds(&["a"], &[]).allow_prefix(None));
        assert!(bounds(&[], &["a"]).allow_lab(None));
    }

    #[test]
    fn prefix_of_the_request_counts_and_else_that_of_the_lab() {
        let lab = LabId::parse("one").unwrap();
        let bounds = Bounds {
            labs: vec!["one".to_owned()],
            name_prefixes: vec!["lab-".to_owned()],
        };
        let prefix = |text| NamePrefix::parse(text).unwrap();
        let (inside, outside) = (prefix("lab-a"), prefix("other"));
        let within = |requested, of_lab| bounds.prefix_within(Some(&lab), requested, of_lab);
        assert_eq!(within(Some(&inside), Some(&outside)), Ok(Some(&inside)));
        assert_eq!(within(None, Some(&inside)), Ok(Some(&inside)));
        assert_eq!(
            within(Some(&outside), Some(&inside)),
            Err(OutOfBounds::OtherPrefix)
        );
        assert_eq!(
            within(None, Some(&outside)),
            Err(OutOfBounds::PrefixOfLab(outside.clone()))
        );
        assert_eq!(within(None, None), Err(OutOfBounds::NoPrefix));
        let of_lab = |lab| bounds.prefix_within(lab, Some(&inside), None);
        assert_eq!(of_lab(None), Err(OutOfBounds::NoLab));
        let other = LabId::parse("two").unwrap();
        assert_eq!(of_lab(Some(&other)), Err(OutOfBounds::OtherLab));
    }
}
