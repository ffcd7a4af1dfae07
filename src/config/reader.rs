//! The reader of environment variables: parses values, collects faults, and records every setting.

use std::{
    borrow::Cow, collections::BTreeMap, fmt, ops::RangeInclusive, str::FromStr, time::Duration,
};

use secrecy::SecretString;

use crate::{
    auth::{TOKENS, parse_tokens},
    secrets::{is_one_line, secret_in},
    url::redact,
};

pub use crate::url::REDACTED;

/// The environment variables that the broker reads.
pub type Variables = BTreeMap<String, String>;

/// One variable with an invalid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The name of the variable.
    pub variable: &'static str,
    /// Its value, or a substitute for a secret.
    pub got: String,
    /// The values that it takes.
    pub takes: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: got {}; it takes {}",
            self.variable, self.got, self.takes
        )
    }
}

/// A setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The name of the variable.
    pub variable: &'static str,
    /// Its value; [`REDACTED`] for a secret, `(none)` if it is not set.
    pub value: String,
    /// The values that it takes.
    pub takes: String,
    /// Whether the value is the default, because the environment does not set the variable.
    pub is_default: bool,
}

/// Reads one variable after another. Names are found in any case, texts without surrounding blanks and quotes. An empty
/// variable counts as not set.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// By name in upper case.
    variables: BTreeMap<String, &'a str>,
    faults: Vec<Fault>,
    settings: Vec<Setting>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(variables: &'a Variables) -> Self {
        let mut by_name = BTreeMap::new();
        // In the order of ASCII, so a name in upper case comes first and takes precedence.
        for (name, text) in variables {
            by_name
                .entry(name.to_ascii_uppercase())
                .or_insert(text.as_str());
        }
        Self {
            variables: by_name,
            faults: Vec::new(),
            settings: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Returns faults, settings and warnings.
    pub(super) fn finish(self) -> (Vec<Fault>, Vec<Setting>, Vec<String>) {
        (self.faults, self.settings, self.warnings)
    }

    /// Returns the text of a variable without blanks and quotes around it; `None` if it is empty or not set.
    pub(super) fn raw(&self, variable: &str) -> Option<&'a str> {
        self.raw_or_empty(variable).filter(|text| !text.is_empty())
    }

    fn raw_or_empty(&self, variable: &str) -> Option<&'a str> {
        self.variables.get(variable).map(|text| unquoted(text))
    }

    /// Whether the environment has the variable, but without a value.
    pub(super) fn is_empty(&self, variable: &str) -> bool {
        self.raw_or_empty(variable).is_some_and(str::is_empty)
    }

    /// Returns the names of all variables in the environment, in upper case.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// Returns the names of the variables that were read.
    pub(super) fn known(&self) -> impl Iterator<Item = &'static str> {
        self.settings.iter().map(|setting| setting.variable)
    }

    /// Adds a warning.
    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Adds a fault, unless the variable has one already.
    pub(super) fn refuse(
        &mut self,
        variable: &'static str,
        got: impl Into<String>,
        takes: impl Into<String>,
    ) {
        if self.faults.iter().any(|fault| fault.variable == variable) {
            return;
        }
        self.faults.push(Fault {
            variable,
            got: got.into(),
            takes: takes.into(),
        });
    }

    fn record(&mut self, variable: &'static str, value: String, takes: String, is_default: bool) {
        let text = self.variables.get(variable).map(|text| text.trim());
        if text.is_some_and(|text| !text.is_empty() && unquoted(text) != text) {
            self.warn(format!(
                "{variable} is in quotes, which are not part of the value; remove them"
            ));
        }
        self.settings.push(Setting {
            variable,
            value,
            takes,
            is_default,
        });
    }

    /// Reads a value with `parse`. `takes` describes the values for which `parse` returns one.
    pub(super) fn parsed<T>(
        &mut self,
        variable: &'static str,
        default: T,
        show: impl Fn(&T) -> String,
        takes: impl Into<String>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let takes = takes.into();
        let text = self.raw(variable);
        let value = match text.map(parse) {
            Some(Some(value)) => value,
            Some(None) => {
                let got = shown(variable, text.unwrap_or_default());
                self.refuse(variable, got, takes.as_str());
                default
            }
            None => default,
        };
        self.record(variable, show(&value), takes, text.is_none());
        value
    }

    /// Reads a text of a certain form.
    pub(super) fn string(
        &mut self,
        variable: &'static str,
        default: &str,
        takes: &str,
        parse: impl FnOnce(&str) -> Option<String>,
    ) -> String {
        self.parsed(variable, default.to_owned(), Clone::clone, takes, parse)
    }

    /// Reads any text; `takes` describes its meaning.
    pub(super) fn text(&mut self, variable: &'static str, default: &str, takes: &str) -> String {
        self.string(variable, default, takes, |text| Some(text.to_owned()))
    }

    /// Reads a text for which empty is a value of its own.
    pub(super) fn text_or_empty(&mut self, variable: &'static str, default: &str) -> String {
        let text = self.raw_or_empty(variable);
        let value = text.unwrap_or(default).to_owned();
        let takes = "any text, or empty".to_owned();
        self.record(variable, value.clone(), takes, text.is_none());
        value
    }

    pub(super) fn optional<T: ToString>(
        &mut self,
        variable: &'static str,
        takes: impl Into<String>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let show = |value: &Option<T>| {
            value
                .as_ref()
                .map_or_else(|| "(none)".to_owned(), T::to_string)
        };
        self.parsed(variable, None, show, takes, |text| parse(text).map(Some))
    }

    pub(super) fn number<T>(
        &mut self,
        variable: &'static str,
        default: T,
        range: RangeInclusive<T>,
    ) -> T
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let takes = number_in(&range);
        self.parsed(variable, default, T::to_string, takes, |text| {
            let number = text.parse().or_else(|_| without_fraction(text).parse());
            number.ok().filter(|number| range.contains(number))
        })
    }

    pub(super) fn duration(
        &mut self,
        variable: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        unit: fn(u64) -> Duration,
    ) -> Duration {
        unit(self.number(variable, default, range))
    }

    pub(super) fn choice<T>(
        &mut self,
        variable: &'static str,
        default: T,
        choices: &[(&'static str, T)],
    ) -> T
    where
        T: Copy + PartialEq,
    {
        let name_of = |value: &T| {
            choices
                .iter()
                .find(|(_, choice)| choice == value)
                .map_or(String::new(), |(name, _)| (*name).to_owned())
        };
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let takes = format!("one of {}", names.join(", "));
        self.parsed(variable, default, name_of, takes, |text| {
            choices
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(text))
                .map(|(_, value)| *value)
        })
    }

    pub(super) fn flag(&mut self, variable: &'static str, default: bool) -> bool {
        let choices = [
            ("true", true),
            ("false", false),
            ("1", true),
            ("0", false),
            ("yes", true),
            ("no", false),
            ("on", true),
            ("off", false),
            ("t", true),
            ("f", false),
            ("y", true),
            ("n", false),
        ];
        self.choice(variable, default, &choices)
    }

    /// Reads a list of tokens.
    pub(super) fn tokens(&mut self, variable: &'static str, default: &str) -> Vec<SecretString> {
        let text = self.raw(variable);
        self.record(
            variable,
            REDACTED.to_owned(),
            TOKENS.to_owned(),
            text.is_none(),
        );
        let tokens = match text.map(|text| secret_in(text, variable)) {
            None => Ok(Cow::Borrowed(default)),
            Some(text) => text.map(|text| unquoted_parts(&text).into()),
        };
        match tokens.and_then(|text| parse_tokens(&text)) {
            Ok(tokens) => tokens,
            Err(takes) => {
                self.refuse(variable, REDACTED, takes);
                Vec::new()
            }
        }
    }

    /// Records tokens that are not read, because they are in Secrets Manager.
    pub(super) fn no_tokens(&mut self, variable: &'static str) {
        self.record(variable, "(none)".to_owned(), TOKENS.to_owned(), true);
    }

    pub(super) fn secret(&mut self, variable: &'static str) -> Option<SecretString> {
        let takes = "one line of ASCII characters";
        let text = self.raw(variable);
        let shown = if text.is_some() { REDACTED } else { "(none)" };
        self.record(variable, shown.to_owned(), takes.to_owned(), text.is_none());
        let secret = secret_in(text?, variable).and_then(|secret| {
            if !secret.is_empty() && is_one_line(&secret) {
                Ok(secret)
            } else {
                Err(takes)
            }
        });
        match secret {
            Ok(secret) => Some(SecretString::from(secret.into_owned())),
            Err(takes) => {
                self.refuse(variable, REDACTED, takes);
                // So that it does not count as missing as well.
                Some(SecretString::default())
            }
        }
    }
}

/// Returns the text without blanks around it and without a pair of quotes, which Docker's `--env-file` and task
/// definitions pass on as part of the value. Quotes alone are an empty text.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    if text.chars().all(|c| matches!(c, '"' | '\'')) {
        return "";
    }
    let without = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    match without('"').or_else(|| without('\'')) {
        // More than one pair, as in a list of quoted texts.
        Some(inner) if inner.contains(['"', '\'']) => text,
        Some(inner) => inner.trim(),
        None => text,
    }
}

fn unquoted_parts(text: &str) -> String {
    let parts: Vec<_> = text.split(',').map(unquoted).collect();
    parts.join(",")
}

/// Returns a whole number without `.0`, with which Python reads it as well.
fn without_fraction(text: &str) -> &str {
    match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|digit| digit == b'0') => {
            whole
        }
        _ => text,
    }
}

/// Shows a refused value. That of any variable may be a URL with a password, and that of the name of a secret the secret.
fn shown(variable: &str, text: &str) -> String {
    if variable.ends_with("_SECRET_ID") {
        REDACTED.to_owned()
    } else {
        format!("{:?}", redact(text))
    }
}

/// Describes the numbers of a range.
pub(super) fn number_in<T: fmt::Display>(range: &RangeInclusive<T>) -> String {
    format!("a number from {} to {}", range.start(), range.end())
}
