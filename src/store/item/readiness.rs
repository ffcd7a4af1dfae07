//! The attributes of the checks of an account, in the item of a sandbox.

use super::attributes::Attributes;
use crate::domain::Readiness;

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
            checked_at: self.time("checked_at"),
            next_check_at: self.time("next_check_at"),
            failures: count("check_failures"),
            unusable_sec: count("unusable_sec"),
            error: self.short_text("check_error"),
        }
    }
}
