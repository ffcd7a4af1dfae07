//! The policy: the copy in memory that requests read.

use std::sync::Arc;

use crate::{
    domain::{LeaseTerms, Policy},
    shared::Shared,
};

/// The policy in force. Cheap to clone; clones share the copy.
#[derive(Clone, Debug)]
pub struct PolicyWatch {
    current: Shared<Arc<Policy>>,
}

impl PolicyWatch {
    /// Begins with the terms of the environment.
    #[must_use]
    pub fn new(terms: LeaseTerms) -> Self {
        let policy = Policy::of_environment(terms);
        Self {
            current: Shared::new(Arc::new(policy)),
        }
    }

    /// Returns the policy in force. Makes no call to the database.
    #[must_use]
    pub fn current(&self) -> Arc<Policy> {
        self.current.get()
    }
}
