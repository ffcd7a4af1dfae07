//! The reader of environment variables: parses values, collects faults, and records every setting.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use secrecy::SecretString;

use crate::{
    auth::{TOKENS, parse_tokens},
    secrets::is_one_line,
};

/// The environment variables that the broker reads.
pub type Variables = BTreeMap<String, String>;

/// Shown in place of every secret.
pub const REDACTED: &str = "[redacted]";

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

/// Reads one variable after another. An empty variable counts as not set.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    variables: &'a Variables,
    faults: Vec<Fault>,
    settings: Vec<Setting>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(variables: &'a Variables) -> Self {
        Self {
            variables,
            faults: Vec::new(),
            settings: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> (Vec<Fault>, Vec<Setting>) {
        (self.faults, self.settings)
    }

    /// Returns the trimmed text of a variable; `None` if it is empty or not set.
    pub(super) fn raw(&self, variable: &str) -> Option<&'a str> {
        self.variables
            .get(variable)
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
    }

    /// Adds a fault.
    pub(super) fn refuse(
        &mut self,
        variable: &'static str,
        got: impl Into<String>,
        takes: impl Into<String>,
    ) {
        self.faults.push(Fault {
            variable,
            got: got.into(),
            takes: takes.into(),
        });
    }

    fn record(&mut self, variable: &'static str, value: String, takes: String, is_default: bool) {
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
                let got = format!("{:?}", text.unwrap_or_default());
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
        let text = self.variables.get(variable).map(|text| text.trim());
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
            text.parse().ok().filter(|number| range.contains(number))
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
        match parse_tokens(text.unwrap_or(default)) {
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
        if text.is_some_and(|text| !is_one_line(text)) {
            self.refuse(variable, REDACTED, takes);
        }
        text.map(SecretString::from)
    }
}

/// Describes the numbers of a range.
pub(super) fn number_in<T: fmt::Display>(range: &RangeInclusive<T>) -> String {
    format!("a number from {} to {}", range.start(), range.end())
}
