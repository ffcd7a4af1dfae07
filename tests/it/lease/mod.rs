//! `lease`: sandboxes for people and their programs, over the API.

mod commands;
mod connection;
mod desk;
mod ends;
mod extensions;
mod front;
mod outages;
mod signals;
