//! Reads a JSON value and collects every fault, where serde would stop at the first one.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use serde_json::{Map, Value};

use super::{
    fault::PolicyFaults,
    path::{FieldPath, beginning, quoted},
};

/// How alike an unknown name and a known one have to be for a hint, from 0 to 1.
const ALIKE: f64 = 0.8;

/// The treatment of fields that the document does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownFields {
    /// Input: most likely a typing error.
    Refused,
    /// A stored document: a newer broker may have written it.
    Ignored,
}

/// The faults found so far, and the rules that find them.
pub(super) struct Collector {
    unknown_fields: UnknownFields,
    pub(super) faults: PolicyFaults,
}

/// The fields of one object. Remembers which were read: the others are unknown.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: &'a FieldPath<'a>,
    collector: &'a mut Collector,
    known: Vec<&'static str>,
}

/// A value as a fault shows it.
struct Got<'a>(&'a Value);

impl fmt::Display for Got<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => f.write_str(&quoted(text)),
            Value::Array(_) => f.write_str("a list"),
            Value::Object(_) => f.write_str("an object"),
            other => write!(f, "{other}"),
        }
    }
}

impl Collector {
    pub(super) fn new(unknown_fields: UnknownFields) -> Self {
        Self {
            unknown_fields,
            faults: PolicyFaults::default(),
        }
    }

    /// Reads an object with `read`, and refuses the fields that it did not ask for.
    pub(super) fn object<T>(
        &mut self,
        value: &Value,
        path: &FieldPath<'_>,
        read: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> Option<T> {
        let Value::Object(object) = value else {
            self.faults.add(path, Got(value), "an object");
            return None;
        };
        let mut fields = Fields {
            object,
            path,
            collector: self,
            known: Vec::new(),
        };
        let read = read(&mut fields);
        fields.refuse_unknown();
        Some(read)
    }
}

impl<'a> Fields<'a> {
    /// Returns the field `name`, unless it is missing or null.
    fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Returns the number of faults so far. A conclusion from several fields requires that none of them added one.
    pub(super) fn fault_count(&self) -> usize {
        self.collector.faults.count()
    }

    /// Adds a fault of the field `name`, whose value is impossible beside other values.
    pub(super) fn contradiction(&mut self, name: &str, takes: impl fmt::Display) {
        let value = self.object.get(name).unwrap_or(&Value::Null);
        let path = FieldPath::Field(self.path, name);
        self.collector.faults.add(path, Got(value), takes);
    }

    /// Reads a whole number.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        range: &RangeInclusive<u32>,
    ) -> Option<u32> {
        self.read(name, whole_number(range), |value| {
            let number = u32::try_from(value.as_u64()?).ok()?;
            range.contains(&number).then_some(number)
        })
    }

    /// Reads a whole number that may not be missing.
    pub(super) fn required_number(
        &mut self,
        name: &'static str,
        range: &RangeInclusive<u32>,
    ) -> Option<u32> {
        self.require(name, whole_number(range));
        self.number(name, range)
    }

    /// Reads a text that `parse` accepts.
    pub(super) fn text<T>(
        &mut self,
        name: &'static str,
        takes: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.read(name, takes, |value| parse(value.as_str()?))
    }

    /// Reads a text that `parse` accepts, and that may not be missing.
    pub(super) fn required_text<T>(
        &mut self,
        name: &'static str,
        takes: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.require(name, takes);
        self.text(name, takes, parse)
    }

    /// Adds a fault if the field `name` is missing or null.
    fn require(&mut self, name: &'static str, takes: impl fmt::Display) {
        if self.object.get(name).is_none_or(Value::is_null) {
            let path = FieldPath::Field(self.path, name);
            self.collector.faults.add(path, "nothing", takes);
        }
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        takes: impl fmt::Display,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(name)?;
        let read = read(value);
        if read.is_none() {
            let path = FieldPath::Field(self.path, name);
            self.collector.faults.add(path, Got(value), takes);
        }
        read
    }

    /// Reads an object.
    pub(super) fn object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> Option<T> {
        let value = self.get(name)?;
        let path = FieldPath::Field(self.path, name);
        self.collector.object(value, &path, read)
    }

    /// Reads a list of at most `max` objects, each with its position. Leaves out those that `read` cannot read.
    pub(super) fn objects<T>(
        &mut self,
        name: &'static str,
        max: usize,
        mut read: impl FnMut(usize, &mut Fields<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.get(name) else {
            return Vec::new();
        };
        let path = FieldPath::Field(self.path, name);
        let takes = format_args!("a list of at most {max} objects");
        let Some(list) = value.as_array() else {
            self.collector.faults.add(path, Got(value), takes);
            return Vec::new();
        };
        if list.len() > max {
            let got = format_args!("{} entries", list.len());
            self.collector.faults.add(path, got, takes);
        }
        let mut entries = Vec::new();
        for (index, value) in list.iter().take(max).enumerate() {
            let path = FieldPath::Entry(&path, index);
            let entry = self
                .collector
                .object(value, &path, |fields| read(index, fields));
            entries.extend(entry.flatten());
        }
        entries
    }

    /// Reads an object with any names, at most `max`, whose fields are texts. `is_valid` judges names and texts.
    pub(super) fn texts(
        &mut self,
        name: &'static str,
        max: usize,
        takes: &str,
        is_valid: impl Fn(&str) -> bool,
    ) -> BTreeMap<String, String> {
        let Some(value) = self.get(name) else {
            return BTreeMap::new();
        };
        let path = FieldPath::Field(self.path, name);
        let faults = &mut self.collector.faults;
        let Some(object) = value.as_object().filter(|object| object.len() <= max) else {
            let takes = format_args!("an object of at most {max} fields");
            faults.add(path, Got(value), takes);
            return BTreeMap::new();
        };
        let mut texts = BTreeMap::new();
        for (name, value) in object {
            let path = FieldPath::Field(&path, name);
            if !is_valid(name) {
                faults.add(path, "a name that is not printable, or too long", takes);
            } else if let Some(text) = value.as_str().filter(|text| is_valid(text)) {
                texts.insert(name.clone(), text.to_owned());
            } else {
                faults.add(path, Got(value), takes);
            }
        }
        texts
    }

    fn refuse_unknown(self) {
        if self.collector.unknown_fields == UnknownFields::Ignored {
            return;
        }
        for name in self.object.keys() {
            if !self.known.contains(&name.as_str()) {
                let path = FieldPath::Field(self.path, name);
                let takes = KnownFields {
                    known: &self.known,
                    instead_of: name,
                };
                let faults = &mut self.collector.faults;
                faults.add(path, "an unknown field", takes);
            }
        }
    }
}

fn whole_number(range: &RangeInclusive<u32>) -> impl fmt::Display {
    fmt::from_fn(|f| {
        write!(
            f,
            "a whole number from {} to {}",
            range.start(),
            range.end()
        )
    })
}

/// The known fields, with the one that was probably meant.
struct KnownFields<'a> {
    known: &'a [&'static str],
    instead_of: &'a str,
}

impl fmt::Display for KnownFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = beginning(self.instead_of);
        let likeness = |known: &&str| strsim::jaro_winkler(name, known);
        let nearest = self
            .known
            .iter()
            .copied()
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        write!(f, "one of the fields {}", self.known.join(", "))?;
        match nearest.filter(|nearest| likeness(nearest) >= ALIKE) {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}
