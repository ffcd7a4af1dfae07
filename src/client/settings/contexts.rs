//! The file of the contexts. A context has the settings of one broker.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Environment, SettingsError, Token, TokenKind, variable};

/// The content of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The context that is used unless another one is chosen.
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Fields>,
}

/// A context in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    url: String,
    #[serde(default, deserialize_with = "secret")]
    token: Option<SecretString>,
    token_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "secret")]
    admin_token: Option<SecretString>,
    admin_token_file: Option<PathBuf>,
    caller: Option<String>,
}

/// A context that was chosen.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) caller: Option<String>,
    fields: Fields,
    /// The file of the contexts.
    file: PathBuf,
    /// The home folder.
    home: Option<PathBuf>,
}

impl Context {
    /// Reads the context `name`, or else the current one.
    pub(super) fn read(
        name: Option<&str>,
        environment: &Environment,
    ) -> Result<Self, SettingsError> {
        let path = config_path(environment);
        let file = path.as_deref().ok_or_else(|| no_broker(None))?;
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && name.is_none() => {
                return Err(no_broker(path.as_deref()));
            }
            Err(error) => return Err(unreadable(file, &error)),
        };
        let mut contexts = parse(&text, file)?;
        let shown = file.display();
        let Some(name) = name.map(str::to_owned).or(contexts.current) else {
            return Err(SettingsError(format!(
                "{shown} names no current context; set current in it, BROKER_CONTEXT, or --context"
            )));
        };
        let fields = contexts.contexts.remove(&name).ok_or_else(|| {
            let known: Vec<_> = contexts.contexts.keys().collect();
            SettingsError(format!("{shown} has no context {name:?}; it has {known:?}"))
        })?;
        Ok(Self {
            name,
            url: fields.url.clone(),
            caller: fields.caller.clone(),
            fields,
            file: file.to_owned(),
            home: folder(environment, "HOME"),
        })
    }

    /// Returns a token of the context.
    pub(super) fn token(&self, kind: TokenKind) -> Result<Token, SettingsError> {
        let Fields {
            token,
            token_file,
            admin_token,
            admin_token_file,
            ..
        } = &self.fields;
        let (token, file, field) = match kind {
            TokenKind::Track => (token, token_file, "token"),
            TokenKind::Admin => (admin_token, admin_token_file, "admin_token"),
        };
        let (name, variable) = (&self.name, kind.variable());
        match (token, file) {
            (Some(token), None) => {
                let place = format!("{field} of the context {name:?}");
                Token::parse(token.expose_secret(), place, Some(self.file.clone()))
            }
            (None, Some(file)) => {
                let file = self.resolve(file);
                let text = fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
                Token::parse(&text, file.display().to_string(), Some(file))
            }
            (Some(_), Some(_)) => Err(SettingsError(format!(
                "the context {name:?} has both {field} and {field}_file; remove one"
            ))),
            (None, None) => Err(SettingsError(format!(
                "no token: set {variable}, or {field} or {field}_file in the context {name:?}"
            ))),
        }
    }

    /// Returns the path of a file that the context names: below the home folder if it begins with `~/`, and relative to
    /// the file of the contexts.
    fn resolve(&self, path: &Path) -> PathBuf {
        let in_home = path.strip_prefix("~").ok().zip(self.home.as_deref());
        in_home.map_or_else(
            || self.file.with_file_name(path),
            |(rest, home)| home.join(rest),
        )
    }
}

/// Parses the file. No message contains a value of the file, which may be a token.
fn parse(text: &str, file: &Path) -> Result<File, SettingsError> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().map_or("", |span| &text[..span.start]);
        let line = before.matches('\n').count() + 1;
        SettingsError(format!(
            "{}, line {line}: {}",
            file.display(),
            error.message()
        ))
    })
}

/// Reads a secret. The message replaces that of the parser, which would contain a value of another type.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    let text = String::deserialize(deserializer)
        .map_err(|_| D::Error::custom("a token is a text in quotes"))?;
    Ok(Some(text.into()))
}

/// Returns the path of the file of the contexts.
fn config_path(environment: &Environment) -> Option<PathBuf> {
    let config = folder(environment, "XDG_CONFIG_HOME")
        .or_else(|| Some(folder(environment, "HOME")?.join(".config")))?;
    Some(config.join("sandbox-broker").join("config.toml"))
}

/// Returns the path in a variable, if it is absolute.
fn folder(environment: &Environment, name: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(variable(environment, name)?);
    folder.is_absolute().then_some(folder)
}

fn no_broker(file: Option<&Path>) -> SettingsError {
    let file = file.unwrap_or(Path::new("~/.config/sandbox-broker/config.toml"));
    SettingsError(format!(
        "no broker: set BROKER_API_URL, such as http://127.0.0.1:8080/v1 for one on this machine, or a context in {}",
        file.display()
    ))
}

fn unreadable(file: &Path, error: &io::Error) -> SettingsError {
    SettingsError(format!("cannot read {}: {error}", file.display()))
}
