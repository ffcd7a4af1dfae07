//! The variants of the protocol that are explored.

use super::{promise::Condition, step::Part};

/// A part of the protocol, with all conditions or without one of them.
pub struct Protocol {
    pub part: Part,
    without: Option<Condition>,
}

impl Protocol {
    pub const fn of(part: Part, without: Option<Condition>) -> Self {
        Self { part, without }
    }

    pub fn has(&self, condition: Condition) -> bool {
        self.without != Some(condition)
    }
}
