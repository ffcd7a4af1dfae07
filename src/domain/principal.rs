//! Who a bearer token stands for.

/// What a token entitles to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The endpoints of tracks.
    Track,
    /// The endpoints of admins.
    Admin,
}
