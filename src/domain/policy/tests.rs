//! Tests over the parts of the policy.

mod difference;
mod faults;
mod hostile;
mod lookup;
mod manual;
mod schedule;
mod strategy;
mod text;

use super::*;
