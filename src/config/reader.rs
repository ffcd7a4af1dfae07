//! Reading settings from the environment: every value parsed, every fault kept, every setting remembered for show.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use secrecy::SecretString;

use crate::{auth::parse_tokens, secrets::is_one_line};

/// The environment variables that the broker reads.
pub type Variables = BTreeMap<String, String>;

/// Shown in place of every secret.
pub const REDACTED: &str = "[redacted]";

/// One variable that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The variable's name.
    pub variable: &'static str,
    /// What it says, or a stand-in for a secret.
    pub got: String,
    /// What it would have to say.
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

/// A setting as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The variable's name.
    pub variable: &'static str,
    /// Its value, or [`REDACTED`].
    pub value: String,
    /// Whether the environment sets it.
    pub is_default: bool,
}

/// Reads one variable after another; an empty one counts as not set.
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

    /// The variable's trimmed text, if it has any.
    pub(super) fn raw(&self, variable: &str) -> Option<&'a str> {
        self.variables
            .get(variable)
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
    }

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

    fn show(&mut self, variable: &'static str, value: String, is_default: bool) {
        self.settings.push(Setting {
            variable,
            value,
            is_default,
        });
    }

    /// A value read by `parse`, which says what the variable takes if it takes something else.
    pub(super) fn parsed<T>(
        &mut self,
        variable: &'static str,
        default: T,
        show: impl Fn(&T) -> String,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let text = self.raw(variable);
        let value = match text.map(parse) {
            Some(Ok(value)) => value,
            Some(Err(takes)) => {
                self.refuse(variable, format!("{:?}", text.unwrap_or_default()), takes);
                default
            }
            None => default,
        };
        self.show(variable, show(&value), text.is_none());
        value
    }

    pub(super) fn text(&mut self, variable: &'static str, default: &str) -> String {
        self.parsed(variable, default.to_owned(), Clone::clone, |text| {
            Ok(text.to_owned())
        })
    }

    pub(super) fn optional<T: ToString>(
        &mut self,
        variable: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.parsed(
            variable,
            None,
            |value| {
                value
                    .as_ref()
                    .map_or_else(|| "(none)".to_owned(), T::to_string)
            },
            |text| parse(text).map(Some),
        )
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
        self.parsed(variable, default, T::to_string, |text| {
            text.parse()
                .ok()
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("a number from {} to {}", range.start(), range.end()))
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
        self.parsed(variable, default, name_of, |text| {
            choices
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(text))
                .map(|(_, value)| *value)
                .ok_or_else(|| {
                    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                    format!("one of {}", names.join(", "))
                })
        })
    }

    /// A text for which empty is a value of its own.
    pub(super) fn text_or_empty(&mut self, variable: &'static str, default: &str) -> String {
        let text = self.variables.get(variable).map(|text| text.trim());
        let value = text.unwrap_or(default).to_owned();
        self.show(variable, value.clone(), text.is_none());
        value
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

    pub(super) fn show_secret(&mut self, variable: &'static str, is_set: bool) {
        let shown = if is_set { REDACTED } else { "(none)" };
        self.show(variable, shown.to_owned(), !is_set);
    }

    /// A comma-separated list of secrets.
    pub(super) fn secrets(&mut self, variable: &'static str, default: &str) -> Vec<SecretString> {
        let text = self.raw(variable);
        self.show(variable, REDACTED.to_owned(), text.is_none());
        match parse_tokens(text.unwrap_or(default)) {
            Ok(tokens) => tokens,
            Err(takes) => {
                self.refuse(variable, REDACTED, takes);
                Vec::new()
            }
        }
    }

    pub(super) fn secret(&mut self, variable: &'static str) -> Option<SecretString> {
        let text = self.raw(variable);
        self.show_secret(variable, text.is_some());
        if text.is_some_and(|text| !is_one_line(text)) {
            self.refuse(variable, REDACTED, "one line of ASCII characters");
        }
        text.map(SecretString::from)
    }
}
