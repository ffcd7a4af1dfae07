//! The decisions of refill: how many accounts a pool may create, from its open creations and its sandboxes.
//!
//! An account counts from the moment it is intended: as *under way* until its sandbox is in the pool, then as that
//! sandbox. So a late answer, list or sync never makes it create an account twice.

mod plan;
mod state;
#[cfg(test)]
mod tests;

pub use self::{
    plan::{Closing, PoolContents, RefillLimit, RefillPlan},
    state::{RefillState, RefillStop},
};
