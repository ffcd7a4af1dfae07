//! Histories: what happened, and whether a correct broker could have made it happen.

mod checker;
mod event;
