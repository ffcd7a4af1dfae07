//! Protection of CSP from the calls of jobs while it fails: a circuit breaker and an adaptive pace.

mod breaker;
mod pace;

pub use self::{
    breaker::{Breaker, BreakerConfig, BreakerDecision},
    pace::{Pace, PaceConfig},
};
