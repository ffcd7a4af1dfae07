//! Tests over the parts of the policy.

mod difference;
mod faults;
mod hostile;
mod lookup;
mod manual;
mod strategy;
mod text;

use super::*;
