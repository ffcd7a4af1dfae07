//! The checker notices what is wrong, and nothing else.

mod rules;
