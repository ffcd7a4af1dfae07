//! `lease`: sandboxes for people and their programs, over the API.

mod output;
