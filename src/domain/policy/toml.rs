//! Policy documents in TOML, for operators. The structure is that of the JSON.

use serde_json::{Map, Value};
use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use super::{
    document::PolicyDocument,
    fault::PolicyFaults,
    path::{FieldPath, quoted},
};

impl PolicyDocument {
    /// Converts TOML to the JSON that [`PolicyDocument::parse`] reads.
    ///
    /// # Errors
    /// [`PolicyFaults`]: line and column of the place that is no TOML, or the paths of values that JSON does not have.
    pub fn from_toml(text: &str) -> Result<Value, PolicyFaults> {
        let mut faults = PolicyFaults::default();
        match DeTable::parse(text) {
            Ok(table) => {
                let value = object(table.into_inner(), &FieldPath::Document, &mut faults);
                faults.none_or(Some(value))
            }
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let (line, column) = position(text, at);
                let got = text.lines().nth(line - 1).unwrap_or_default();
                let path = format_args!("line {line}, column {column}");
                let takes = format_args!("TOML: {}", error.message());
                faults.add(path, quoted(got), takes);
                Err(faults)
            }
        }
    }

    /// Returns the document as TOML, which [`PolicyDocument::from_toml`] reads.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }
}

/// Returns line and column of a position, in characters and counted from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let beginning = before.rfind('\n').map_or(0, |end| end + 1);
    (line, before[beginning..].chars().count() + 1)
}

/// The parser limits the depth of a table, so that recursion is safe.
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
        DeValue::Integer(number) => integer(&number),
        DeValue::Float(number) => float(&number).unwrap_or_else(|| {
            faults.add(path, number, "a finite number");
            Value::Null
        }),
        DeValue::Datetime(date) => {
            faults.add(
                path,
                date,
                "no date: a policy has none; put a text in quotes",
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

/// Converts a number of any size. One that JSON has only as a floating-point number is out of any range here.
fn integer(number: &DeInteger<'_>) -> Value {
    i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::from(f64::MAX), Value::from)
}

fn float(number: &DeFloat<'_>) -> Option<Value> {
    let number = number.as_str().parse().ok()?;
    serde_json::Number::from_f64(number).map(Value::Number)
}
