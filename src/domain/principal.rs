//! Principals: the identities behind bearer tokens.

/// The role of a principal, which decides the endpoints it may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Endpoints for labs: allocate, look up and release sandboxes.
    Track,
    /// Endpoints for administration of the pool.
    Admin,
}

/// The roles of one principal. A token that is configured for both roles has both, as in the FastAPI service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    track: bool,
    admin: bool,
}

impl Roles {
    /// Adds a role.
    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        match role {
            Role::Track => Self {
                track: true,
                ..self
            },
            Role::Admin => Self {
                admin: true,
                ..self
            },
        }
    }

    /// Returns whether `role` is one of them.
    #[must_use]
    pub const fn include(self, role: Role) -> bool {
        match role {
            Role::Track => self.track,
            Role::Admin => self.admin,
        }
    }

    /// Returns whether there is none: the token is not valid.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.track && !self.admin
    }
}

impl From<Role> for Roles {
    fn from(role: Role) -> Self {
        Self::default().with(role)
    }
}
