//! Policy documents as text: JSON and TOML of one structure.

use serde_json::{Map, Number, Value};
use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use super::{
    document::PolicyDocument,
    fault::PolicyFaults,
    path::{FieldPath, quoted},
    unique::UniqueFields,
};

/// The characters before a place in a text that its fault shows.
const BEFORE: usize = 30;

impl PolicyDocument {
    /// Reads JSON for [`PolicyDocument::parse`]. A field that is there twice is a fault, as in TOML.
    ///
    /// # Errors
    /// [`PolicyFaults`] with line and column of the place that is no JSON.
    pub fn from_json(text: &str) -> Result<Value, PolicyFaults> {
        serde_json::from_str::<UniqueFields>(text)
            .map(|value| value.0)
            .map_err(|error| {
                let line_start = start_of_line(text, error.line());
                let at = line_start + error.column().saturating_sub(1);
                let message = error.to_string();
                let message = message
                    .rsplit_once(" at line ")
                    .map_or(&*message, |(text, _)| text);
                unreadable(text, at, format_args!("JSON: {message}"))
            })
    }

    /// Reads TOML for [`PolicyDocument::parse`].
    ///
    /// # Errors
    /// [`PolicyFaults`]: line and column of the place that is no TOML, or the paths of all values that JSON does not have.
    pub fn from_toml(text: &str) -> Result<Value, PolicyFaults> {
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            unreadable(text, at, format_args!("TOML: {}", error.message()))
        })?;
        let mut faults = PolicyFaults::default();
        let value = object(table.into_inner(), &FieldPath::Document, &mut faults);
        faults.none_or(Some(value))
    }

    /// Returns the document as TOML, which [`PolicyDocument::from_toml`] reads.
    #[must_use]
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "the document is a table of texts and small numbers"
    )]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a document has a form in TOML")
    }
}

/// Returns the fault of a text that cannot be read from the byte `at` on.
fn unreadable(text: &str, at: usize, takes: impl std::fmt::Display) -> PolicyFaults {
    let at = text.floor_char_boundary(at);
    let line = text[..at].matches('\n').count() + 1;
    let in_line = &text[start_of_line(text, line)..at];
    let column = in_line.chars().count() + 1;
    let first = in_line.char_indices().rev().nth(BEFORE - 1);
    let shown = at - in_line.len() + first.map_or(0, |(at, _)| at);
    let got = text[shown..].lines().next().unwrap_or_default();
    let mut faults = PolicyFaults::default();
    faults.add(
        format_args!("line {line}, column {column}"),
        quoted(got),
        takes,
    );
    faults
}

/// Returns the position of the first byte of a line, counted from 1.
fn start_of_line(text: &str, line: usize) -> usize {
    let mut ends = text.match_indices('\n').map(|(at, _)| at + 1);
    match line {
        0 | 1 => 0,
        line => ends.nth(line - 2).unwrap_or(text.len()),
    }
}

/// Converts a table. The parser limits its depth, so that recursion is safe.
fn object(table: DeTable<'_>, path: &FieldPath<'_>, faults: &mut PolicyFaults) -> Value {
    let mut object = Map::new();
    for (name, value) in table {
        let name = name.into_inner();
        let value = json(value.into_inner(), &FieldPath::Field(path, &name), faults);
        object.insert(name.into_owned(), value);
    }
    Value::Object(object)
}

fn json(value: DeValue<'_>, path: &FieldPath<'_>, faults: &mut PolicyFaults) -> Value {
    match value {
        DeValue::String(text) => text.into(),
        DeValue::Boolean(is_true) => is_true.into(),
        DeValue::Integer(number) => integer(&number).unwrap_or_else(|| {
            faults.add(path, quoted(number.as_str()), "a smaller number");
            Value::Null
        }),
        DeValue::Float(number) => float(&number).unwrap_or_else(|| {
            faults.add(path, quoted(number.as_str()), "a finite number");
            Value::Null
        }),
        DeValue::Datetime(date) if is_time_of_schedule(path) => date.to_string().into(),
        DeValue::Datetime(date) => {
            faults.add(
                path,
                date,
                "no date: only from and to of a schedule are dates. Put a text in quotes",
            );
            Value::Null
        }
        DeValue::Array(values) => values
            .into_iter()
            .enumerate()
            .map(|(index, value)| json(value.into_inner(), &FieldPath::Entry(path, index), faults))
            .collect(),
        DeValue::Table(table) => object(table, path, faults),
    }
}

fn is_time_of_schedule(path: &FieldPath<'_>) -> bool {
    let FieldPath::Field(schedule, "from" | "to") = path else {
        return false;
    };
    matches!(
        schedule,
        FieldPath::Entry(FieldPath::Field(_, "schedule"), _)
    )
}

fn integer(number: &DeInteger<'_>) -> Option<Value> {
    let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
    Some(number.into())
}

fn float(number: &DeFloat<'_>) -> Option<Value> {
    let number = number.as_str().parse().ok()?;
    Number::from_f64(number).map(Value::Number)
}
