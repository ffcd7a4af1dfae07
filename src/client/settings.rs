//! The settings of the command line: which broker, with which tokens, for which caller.
//!
//! The tokens of a context are only ever sent to the URL of that context.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use thiserror::Error;

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

/// The error of settings that are missing or invalid. The message says what to set.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct SettingsError(String);

/// The two tokens of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// The token of `lease`.
    Track,
    /// The token of `admin`.
    Admin,
}

impl TokenKind {
    /// The variable that has the token.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Track => "BROKER_API_TOKEN",
            Self::Admin => "BROKER_ADMIN_TOKEN",
        }
    }
}

/// The settings in force.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL of the API, such as `https://broker.example.com/v1`.
    pub url: Url,
    /// The caller, if one is set.
    pub caller: Option<String>,
    environment: Environment,
    context: Option<(String, Context)>,
}

/// The file of the contexts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The context that is used unless another one is chosen.
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

/// One broker in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    url: String,
    token: Option<SecretString>,
    token_file: Option<PathBuf>,
    admin_token: Option<SecretString>,
    admin_token_file: Option<PathBuf>,
    caller: Option<String>,
}

impl Settings {
    /// Reads the settings from options, environment and file, in this order.
    ///
    /// # Errors
    /// No broker is named, or the file or a value is invalid.
    pub fn load(selection: &Selection, environment: &Environment) -> Result<Self, SettingsError> {
        let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let url = selection.url.as_ref().or(variable("BROKER_API_URL"));
        let named = selection.context.as_ref();
        let context = match (named, url) {
            (Some(_), Some(_)) if selection.url.is_some() => {
                return Err(SettingsError(
                    "--url and --context exclude each other: a context has a URL of its own"
                        .to_owned(),
                ));
            }
            // The environment's URL does not matter then.
            (Some(name), _) => Some(read_context(Some(name), environment)?),
            (None, Some(_)) => None,
            (None, None) => Some(read_context(variable("BROKER_CONTEXT"), environment)?),
        };
        let url = match (&context, url) {
            (Some((_, context)), _) => &context.url,
            (None, Some(url)) => url,
            (None, None) => return Err(no_broker(&config_path(environment))),
        };
        let caller = variable("BROKER_CALLER").cloned();
        let of_context = || context.as_ref()?.1.caller.clone();
        Ok(Self {
            url: parse_url(url)?,
            caller: caller.or_else(of_context),
            environment: environment.clone(),
            context,
        })
    }

    /// Returns a token: the environment's, or else that of the context.
    ///
    /// # Errors
    /// There is none, or its file cannot be read.
    pub fn token(&self, kind: TokenKind) -> Result<SecretString, SettingsError> {
        let variable = kind.variable();
        if let Some(token) = self
            .environment
            .get(variable)
            .filter(|token| !token.is_empty())
        {
            return checked_token(token, variable);
        }
        let Some((name, context)) = &self.context else {
            return Err(SettingsError(format!("no token: set {variable}")));
        };
        let (token, file, field) = match kind {
            TokenKind::Track => (&context.token, &context.token_file, "token"),
            TokenKind::Admin => (
                &context.admin_token,
                &context.admin_token_file,
                "admin_token",
            ),
        };
        let place = format!("{field} of the context {name:?}");
        match (token, file) {
            (Some(token), None) => checked_token(token.expose_secret(), &place),
            (None, Some(file)) => {
                let text = fs::read_to_string(file).map_err(|error| {
                    SettingsError(format!("cannot read {}: {error}", file.display()))
                })?;
                checked_token(&text, &file.display().to_string())
            }
            (Some(_), Some(_)) => Err(SettingsError(format!(
                "the context {name:?} has both {field} and {field}_file; remove one"
            ))),
            (None, None) => Err(SettingsError(format!(
                "no token: set {variable}, or {field} or {field}_file in the context {name:?}"
            ))),
        }
    }
}

/// Returns the path of the file of the contexts.
fn config_path(environment: &Environment) -> Option<PathBuf> {
    let folder = |name| {
        let folder = PathBuf::from(environment.get(name)?);
        folder.is_absolute().then_some(folder)
    };
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(config.join("sandbox-broker").join("config.toml"))
}

fn no_broker(path: &Option<PathBuf>) -> SettingsError {
    let file = path
        .as_deref()
        .unwrap_or(Path::new("~/.config/sandbox-broker/config.toml"));
    SettingsError(format!(
        "no broker: set BROKER_API_URL, such as http://127.0.0.1:8080/v1 for one on this machine, or a context in {}",
        file.display()
    ))
}

/// Returns the context `name`, or else the current one, with its name.
fn read_context(
    name: Option<&String>,
    environment: &Environment,
) -> Result<(String, Context), SettingsError> {
    let path = config_path(environment);
    let missing = || no_broker(&path);
    let file = path.as_deref().ok_or_else(missing)?;
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && name.is_none() => {
            return Err(missing());
        }
        Err(error) => {
            return Err(SettingsError(format!(
                "cannot read {}: {error}",
                file.display()
            )));
        }
    };
    let shown = file.display();
    // The message of the parser shows the line, which may have a token.
    let mut contexts: File = toml::from_str(&text).map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start].lines().count().max(1));
        SettingsError(format!("{shown}, line {line}: {}", error.message()))
    })?;
    let Some(name) = name.cloned().or(contexts.current) else {
        return Err(SettingsError(format!(
            "{shown} names no current context; set current in it, BROKER_CONTEXT, or --context"
        )));
    };
    let known: Vec<_> = contexts.contexts.keys().cloned().collect();
    match contexts.contexts.remove(&name) {
        Some(context) => Ok((name, context)),
        None => Err(SettingsError(format!(
            "{shown} has no context {name:?}; it has {known:?}"
        ))),
    }
}

fn checked_token(text: &str, place: &str) -> Result<SecretString, SettingsError> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SettingsError(format!(
            "{place} is no token: it is empty, or has a space or another character that no token has"
        )));
    }
    Ok(token.to_owned().into())
}

/// Returns the URL of the API. One without a path gets the path of the API's version.
fn parse_url(text: &str) -> Result<Url, SettingsError> {
    let invalid = |reason: &str| {
        let shown = crate::url::redact(text);
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
