//! Principals: the identities behind bearer tokens.

/// The role of a principal, which decides the endpoints it may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Endpoints for labs: allocate, look up and release sandboxes.
    Track,
    /// Endpoints for administration of the pool.
    Admin,
}
