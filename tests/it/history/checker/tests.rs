//! The checker notices what is wrong, and nothing else.

mod generated;
mod rules;
