//! The settings of the command line: URL of the broker, tokens, caller.
//!
//! The tokens of a context are only ever sent to the URL of that context.

mod contexts;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use self::contexts::Context;
use crate::url::{is_loopback_url, redact};

/// The variables of the environment, by name.
type Environment = BTreeMap<String, String>;

/// The choice of a broker by options.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The URL of the broker's API.
    pub url: Option<String>,
    /// The name of a context.
    pub context: Option<String>,
}

/// The error of a setting that is missing or invalid. Its message says how to mend it.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct SettingsError(String);

/// The two tokens of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// That of a principal with the role `track`, for `lease`.
    Track,
    /// That of a principal with an administrative role, for `admin`.
    Admin,
}

impl TokenKind {
    /// Returns the name of the variable that has the token.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Track => "BROKER_API_TOKEN",
            Self::Admin => "BROKER_ADMIN_TOKEN",
        }
    }
}

/// A token, and where it was found.
#[derive(Clone, Debug)]
pub struct Token {
    pub(super) secret: SecretString,
    /// The variable, the field of a context or the file that has it, for messages.
    pub(super) place: String,
    /// The file that has it, if it is in a file.
    file: Option<PathBuf>,
}

/// The settings in force.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL of the API, such as `https://broker.example.com/v1`.
    pub url: Url,
    /// The caller, if one is set.
    pub caller: Option<String>,
    environment: Environment,
    context: Option<Context>,
}

impl Settings {
    /// Reads the settings from options, environment and file, in this order.
    ///
    /// # Errors
    /// No broker is named, or the file or a value is invalid.
    pub fn load(selection: &Selection, environment: &Environment) -> Result<Self, SettingsError> {
        let url = selection
            .url
            .as_deref()
            .or(variable(environment, "BROKER_API_URL"));
        let context = match (&selection.context, url) {
            (Some(_), _) if selection.url.is_some() => {
                return Err(SettingsError(
                    "--url and --context exclude each other: a context has a URL of its own"
                        .to_owned(),
                ));
            }
            // BROKER_API_URL, if set, is ignored.
            (Some(name), _) => Some(Context::read(Some(name), environment)?),
            (None, Some(_)) => None,
            (None, None) => {
                let name = variable(environment, "BROKER_CONTEXT");
                Some(Context::read(name, environment)?)
            }
        };
        let url = context.as_ref().map(|context| context.url.as_str()).or(url);
        let caller = variable(environment, "BROKER_CALLER").map(str::to_owned);
        Ok(Self {
            url: parse_url(url.unwrap_or_default())?,
            caller: caller.or_else(|| context.as_ref()?.caller.clone()),
            environment: environment.clone(),
            context,
        })
    }

    /// Returns the name of the context that is used, if one is.
    #[must_use]
    pub fn context(&self) -> Option<&str> {
        Some(&self.context.as_ref()?.name)
    }

    /// Returns a token: that of the environment, or else that of the context.
    ///
    /// # Errors
    /// There is none, or its file cannot be read.
    pub fn token(&self, kind: TokenKind) -> Result<Token, SettingsError> {
        let name = kind.variable();
        if let Some(text) = variable(&self.environment, name) {
            return Token::parse(text, name.to_owned(), None);
        }
        self.context.as_ref().map_or_else(
            || Err(SettingsError(format!("no token: set {name}"))),
            |context| context.token(kind),
        )
    }

    /// Returns warnings of settings that expose a token.
    #[must_use]
    pub fn warnings(&self, token: &Token) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.url.scheme() == "http" && !is_loopback_url(self.url.as_str()) {
            warnings.push(format!(
                "{} is not https: the token is sent unencrypted, and everybody on the network path can read it",
                self.url
            ));
        }
        if let Some(file) = token.file.as_deref().filter(|file| is_open_to_others(file)) {
            let shown = file.display();
            warnings.push(format!(
                "other users of this machine can read or change {shown}, which has a token: chmod 600 {shown}"
            ));
        }
        warnings
    }
}

impl Token {
    /// Reads the text of a token. White space around it is ignored.
    fn parse(text: &str, place: String, file: Option<PathBuf>) -> Result<Self, SettingsError> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SettingsError(format!(
                "{place} is no token: it is empty, or has a space or another character that no token has"
            )));
        }
        Ok(Self {
            secret: text.to_owned().into(),
            place,
            file,
        })
    }

    /// Returns the text of the token.
    pub(super) fn expose(&self) -> &str {
        self.secret.expose_secret()
    }
}

/// Returns the value of a variable, unless it is empty.
fn variable<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    let value = environment.get(name)?;
    (!value.is_empty()).then_some(value)
}

/// The permissions of all users but the owner.
const OTHERS: u32 = 0o077;

/// Returns whether other users than its owner may read or write a regular file.
fn is_open_to_others(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & OTHERS != 0)
}

/// Returns the URL of the API. One without a path gets the path of the API's version.
fn parse_url(text: &str) -> Result<Url, SettingsError> {
    let invalid = |reason: &str| {
        let shown = redact(text);
        SettingsError(format!(
            "the broker's URL {shown:?} {reason}; it is like https://broker.example.com/v1"
        ))
    };
    let mut url =
        Url::parse(text.trim()).map_err(|error| invalid(&format!("is invalid ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(invalid("is no address of HTTP or HTTPS"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("has a user or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("has a query or a fragment"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(if path.is_empty() { "/v1" } else { &path });
    Ok(url)
}
