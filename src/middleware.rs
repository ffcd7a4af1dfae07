//! What stands between the socket and the handlers.

pub mod auth;
pub mod body;
pub mod request_log;
