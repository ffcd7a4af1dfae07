//! What stands between the socket and the handlers.

pub mod admission;
pub mod auth;
pub mod body;
pub mod client;
pub mod overload;
pub mod rate_limit;
pub mod request_log;
pub mod security_headers;
