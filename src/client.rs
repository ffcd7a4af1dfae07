//! The HTTP client of a broker's API, for the command line: settings, calls, retries, errors.

mod call;
mod date;
mod error;
mod settings;
mod transport;

pub use self::{
    call::{Answer, Body, Call},
    error::ClientError,
    settings::{Selection, Settings, SettingsError, Token, TokenKind},
    transport::Client,
};
