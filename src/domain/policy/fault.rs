//! The faults of a policy document.

use std::fmt;

use serde::Serialize;
use thiserror::Error;

/// How many faults are described; further ones are counted.
const MAX_FAULTS: usize = 100;

/// A value of a policy document that it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyFault {
    /// The path of the value, such as `lab[2].max_held`, or its line and column in TOML or JSON that cannot be read.
    pub path: String,
    /// The value, shortened.
    pub got: String,
    /// The values that are possible.
    pub takes: String,
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, got, takes } = self;
        write!(f, "{path}: got {got}; takes {takes}")
    }
}

/// All faults of a policy document. At least one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Error)]
pub struct PolicyFaults {
    /// The first faults, at most 100.
    pub faults: Vec<PolicyFault>,
    /// How many more there are.
    pub more: usize,
}

impl PolicyFaults {
    /// Returns the number of faults.
    #[must_use]
    pub fn count(&self) -> usize {
        self.faults.len() + self.more
    }

    /// Adds a fault. Its texts are built only if it is among the first ones, so that a document of nothing but faults
    /// is cheap.
    pub(super) fn add(
        &mut self,
        path: impl fmt::Display,
        got: impl fmt::Display,
        takes: impl fmt::Display,
    ) {
        if self.faults.len() == MAX_FAULTS {
            self.more += 1;
            return;
        }
        self.faults.push(PolicyFault {
            path: path.to_string(),
            got: got.to_string(),
            takes: takes.to_string(),
        });
    }

    /// Returns `value` if there are no faults.
    pub(super) fn none_or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

impl fmt::Display for PolicyFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            let separator = if at == 0 { "" } else { ". " };
            write!(f, "{separator}{fault}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, ". {more} more"),
        }
    }
}
