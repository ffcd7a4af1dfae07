//! The options of the commands that call a broker's API.

use std::time::Duration;

use clap::Args;

use super::output::{Format, notice};
use crate::{
    client::{Client, ClientError, Selection, Settings, TokenKind},
    config::Variables,
};

/// The options that all commands over the API have.
#[derive(Clone, Debug, Args)]
pub struct ConnectionOptions {
    /// The URL of the broker's API, such as `https://broker.example.com/v1`. Default: `BROKER_API_URL`, else the URL of
    /// the context.
    #[arg(long, global = true, value_name = "URL", help_heading = "Connection")]
    pub url: Option<String>,
    /// The context in ~/.config/sandbox-broker/config.toml. Default: `BROKER_CONTEXT`, else `current` of the file.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Connection")]
    pub context: Option<String>,
    /// How long to retry while the broker cannot be reached, is overloaded or fails, in seconds.
    #[arg(
        long = "wait",
        global = true,
        value_name = "SECONDS",
        default_value_t = 15,
        help_heading = "Connection"
    )]
    pub wait_sec: u32,
    /// The form of the output.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        help_heading = "Output"
    )]
    pub output: Format,
}

impl ConnectionOptions {
    /// Reads the settings of the client.
    ///
    /// # Errors
    /// No broker is named, or a setting is invalid.
    pub fn settings(&self, environment: &Variables) -> Result<Settings, ClientError> {
        let selection = Selection {
            url: self.url.clone(),
            context: self.context.clone(),
        };
        Ok(Settings::load(&selection, environment)?)
    }

    /// Creates the client of `settings` with the token of a kind.
    ///
    /// # Errors
    /// There is no token, or no connection can be made from this machine.
    pub fn client(&self, settings: &Settings, kind: TokenKind) -> Result<Client, ClientError> {
        let token = settings.token(kind)?;
        for warning in settings.warnings(&token) {
            notice(format_args!("warning: {warning}"));
        }
        let wait = Duration::from_secs(self.wait_sec.into());
        Client::new(settings.url.clone(), &token, wait, |error, pause| {
            notice(retry_remark(error, pause));
        })
    }
}

/// Returns the remark about a call that is repeated after `pause`.
#[must_use]
pub fn retry_remark(error: &ClientError, pause: Duration) -> String {
    format!("{error}; retrying in {} s", pause.as_secs_f32().ceil())
}
