//! JSON answers of CSP, read tolerantly: an invalid entry of a list is skipped, and the others are read.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

/// One page of a list.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The entries, as they are in the answer.
    pub(super) entries: Vec<Box<RawValue>>,
    /// The number of entries on all pages, if the answer contains it.
    pub(super) total: Option<usize>,
}

impl Page {
    /// Parses an answer: a list, or an object with one in `results` or `result`. A list that is null or absent is
    /// empty.
    ///
    /// # Errors
    /// The answer has another form, or is an error object.
    pub(super) fn parse(answer: &str) -> serde_json::Result<Self> {
        serde_json::from_str(answer)
    }
}

impl<'de> Deserialize<'de> for Page {
    fn deserialize<D: Deserializer<'de>>(answer: D) -> Result<Self, D::Error> {
        answer.deserialize_any(PageVisitor)
    }
}

struct PageVisitor;

impl<'de> Visitor<'de> for PageVisitor {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or an object with a list of results")
    }

    fn visit_unit<E>(self) -> Result<Page, E> {
        Ok(Page::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Page, A::Error> {
        let mut page = Page::default();
        while let Some(entry) = list.next_element()? {
            page.entries.push(entry);
        }
        Ok(page)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Page, A::Error> {
        let mut page = Page::default();
        let (mut has_list, mut has_error) = (false, false);
        while let Some(name) = object.next_key::<String>()? {
            match name.as_str() {
                "results" | "result" => {
                    has_list = true;
                    let entries: Option<Vec<_>> = object.next_value()?;
                    page.entries.extend(entries.unwrap_or_default());
                }
                "page" => page.total = total_size(&object.next_value::<Box<RawValue>>()?),
                name => {
                    // Gateways in front of CSP answer with the others.
                    has_error |= matches!(name, "error" | "errors" | "message" | "code" | "detail");
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        if has_error && !has_list {
            return Err(A::Error::custom("it is an error"));
        }
        Ok(page)
    }
}

/// Returns the `total_size` of a `page` object. CSP sends it as text.
fn total_size(page: &RawValue) -> Option<usize> {
    let page: Value = serde_json::from_str(page.get()).ok()?;
    match page.get("total_size")? {
        Value::Number(total) => total.as_u64()?.try_into().ok(),
        Value::String(total) => total.trim().parse().ok(),
        _ => None,
    }
}

/// Converts the body of an answer to text that a JSON parser accepts: in its strings, bytes that are not
/// UTF-8 and halves of a surrogate pair become U+FFFD, control characters become spaces.
pub(super) fn repaired(body: Vec<u8>) -> String {
    let mut text = String::from_utf8(body)
        .unwrap_or_else(|fault| String::from_utf8_lossy(fault.as_bytes()).into_owned());
    let mut start = 0;
    while let Some(found) = text[start..].find('\\') {
        let at = start + found;
        start = match code_unit(&text, at) {
            Some(0xD800..=0xDBFF) if matches!(code_unit(&text, at + 6), Some(0xDC00..=0xDFFF)) => {
                at + 12
            }
            Some(0xD800..=0xDFFF) => {
                text.replace_range(at..at + 6, r"\ufffd");
                at + 6
            }
            // The next character is escaped, so it begins no escape.
            _ => at + 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
    }
    if text.bytes().any(|byte| byte < b' ') {
        text = text.replace(|one: char| one < ' ', " ");
    }
    text
}

/// Returns the UTF-16 code unit of the escape `\uXXXX` at a position, if there is one.
fn code_unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix(r"\u")?;
    // `from_str_radix` accepts a sign.
    digits
        .bytes()
        .all(|digit| digit.is_ascii_hexdigit())
        .then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::arbitrary::json;

    fn values(answer: &str) -> Vec<Value> {
        let page = Page::parse(answer).unwrap();
        let parse = |entry: &RawValue| serde_json::from_str(entry.get()).unwrap();
        page.entries.iter().map(|entry| parse(entry)).collect()
    }

    #[test]
    fn list_may_be_bare_or_in_results_or_result() {
        for answer in [
            "[1,2]",
            r#"{"results": [1,2]}"#,
            r#"{"result": [1,2]}"#,
            r#"{"result": null, "results": [1,2], "page": {}}"#,
            r#"{"results": [1,2], "error": null}"#,
        ] {
            assert_eq!(values(answer), [1, 2], "{answer}");
        }
    }

    #[test]
    fn null_and_absent_lists_are_empty() {
        for answer in [
            "null",
            "{}",
            "[]",
            r#"{"results": null}"#,
            r#"{"results": []}"#,
            r#"{"success": true}"#,
        ] {
            assert!(values(answer).is_empty(), "{answer}");
        }
    }

    #[test]
    fn answer_without_a_list_is_an_error() {
        for answer in [
            "",
            "1",
            "true",
            r#""text""#,
            r#"{"results": 1}"#,
            r#"{"results": {}}"#,
            r#"{"results": "none"}"#,
            r#"{"error": [{"message": "no"}]}"#,
            r#"{"message": "not ready"}"#,
            r#"{"code": 5, "details": []}"#,
            r#"{"results": [1"#,
        ] {
            assert!(Page::parse(answer).is_err(), "{answer}");
        }
    }

    #[test]
    fn total_size_is_a_number_or_text() {
        for (page, total) in [
            (r#"{"total_size": "12"}"#, Some(12)),
            (r#"{"total_size": 12}"#, Some(12)),
            (r#"{"total_size": null}"#, None),
            (r#"{"total_size": -1}"#, None),
            ("{}", None),
            ("null", None),
            ("7", None),
        ] {
            let answer = format!(r#"{{"page": {page}, "results": []}}"#);
            assert_eq!(Page::parse(&answer).unwrap().total, total, "{page}");
        }
    }

    #[test]
    fn unparsable_number_or_depth_costs_one_entry() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let answer = format!(r#"{{"results": [1, 1e999, {deep}, 2]}}"#);
        let page = Page::parse(&answer).unwrap();
        let parsed: Vec<Option<Value>> = (page.entries.iter())
            .map(|entry| serde_json::from_str(entry.get()).ok())
            .collect();
        assert_eq!(parsed, [Some(json!(1)), None, None, Some(json!(2))]);
    }

    #[test]
    fn deeply_nested_unfinished_answer_is_an_error() {
        assert!(Page::parse(&format!(r#"{{"results": {}"#, "[".repeat(1 << 20))).is_err());
    }

    #[test]
    fn invalid_text_is_replaced() {
        for (body, expected) in [
            (br#""lab \ud83d""#.to_vec(), "lab \u{fffd}"),
            (
                br#""lab \ude00 \ud83d\ud83d\ude00""#.to_vec(),
                "lab \u{fffd} \u{fffd}\u{1f600}",
            ),
            (br#""a\\ud83d \\\ud83d""#.to_vec(), "a\\ud83d \\\u{fffd}"),
            (b"\"lab \xff\"".to_vec(), "lab \u{fffd}"),
            (b"\"lab\n1\"".to_vec(), "lab 1"),
        ] {
            let text: String = serde_json::from_str(&repaired(body)).unwrap();
            assert_eq!(text, expected);
        }
    }

    proptest! {
        #[test]
        fn valid_json_keeps_its_value(value in json()) {
            let body = serde_json::to_vec_pretty(&value).unwrap();
            let expected: Value = serde_json::from_slice(&body).unwrap();
            let repaired: Value = serde_json::from_str(&repaired(body)).unwrap();
            prop_assert_eq!(repaired, expected);
        }

        #[test]
        fn string_of_any_bytes_and_escapes_becomes_valid(
            parts in proptest::collection::vec(prop_oneof![
                any::<u8>().prop_filter("ends the string or begins an escape", |byte| !b"\"\\".contains(byte))
                    .prop_map(|byte| vec![byte]),
                any::<u16>().prop_map(|unit| format!("\\u{unit:04x}").into_bytes()),
                (0xD700_u16..0xE100).prop_map(|unit| format!("\\u{unit:04X}").into_bytes()),
                proptest::sample::select(vec![r"\\", r#"\""#, r"\n", r"\/"]).prop_map(|text| text.as_bytes().to_vec()),
            ], 0..40)
        ) {
            let body = [b"\"".to_vec(), parts.concat(), b"\"".to_vec()].concat();
            prop_assert!(serde_json::from_str::<String>(&repaired(body)).is_ok());
        }

        #[test]
        fn any_body_is_parsed_or_rejected(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let list = [b"[".to_vec(), body.clone(), b"]".to_vec()].concat();
            for body in [body, list] {
                let _ = Page::parse(&repaired(body)).map(|page| page.total);
            }
        }
    }
}
