//! The attributes of the checks of an account, in the item of a sandbox.

use super::attributes::Attributes;
use crate::{clock::UnixSeconds, domain::Readiness};

/// The names of the attributes of checks that found the account not usable, and of the last check, for an update after
/// which checks begin anew.
pub(in crate::store) const CHECK_ATTRIBUTES: &str =
    "checked_at, next_check_at, check_failures, unusable_sec, check_error";

impl Attributes<'_> {
    pub(super) fn readiness(self) -> Readiness {
        let count = |name| {
            let count = self.number(name);
            count
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or_default()
        };
        Readiness {
            usable_at: self.time("usable_at"),
            // The write of the next result compares numbers.
            checked_at: self.number("checked_at").map(UnixSeconds),
            next_check_at: self.time("next_check_at"),
            failures: count("check_failures"),
            unusable_sec: count("unusable_sec"),
            error: self.short_text("check_error"),
        }
    }
}
