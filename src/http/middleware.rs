//! The layers between the server and the handlers.

pub(crate) mod admission;
pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod cors;
pub(crate) mod overload;
pub(crate) mod rate_limit;
mod refusals;
pub(crate) mod request_log;
pub(crate) mod security_headers;
pub(crate) mod sign_in;
pub(crate) mod trailing_slash;
