//! `lease`, as its user types it: the binary against a broker behind a network that fails.

mod commands;
mod connection;
mod desk;
mod ends;
mod extensions;
mod front;
mod outages;
mod signals;
