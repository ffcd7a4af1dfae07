//! The text of a secret: plain, or JSON as the console of Secrets Manager writes it.

use std::borrow::Cow;

use serde_json::Value;

/// Keys under which a secret is found, besides the name of its variable.
const KEYS: [&str; 2] = ["token", "password"];

const ONE_VALUE: &str = "plain text, or a JSON object with one text, or with a text named like the variable, `token` or `password`";

/// Returns the secret in `text`: the text itself or, if that is JSON, the string in it, the strings of a list separated
/// by commas, or the one string of an object. An object with several keys has to name one like `variable`, `token` or
/// `password`.
///
/// # Errors
/// The form that the text must have.
pub(crate) fn secret_in<'a>(text: &'a str, variable: &str) -> Result<Cow<'a, str>, &'static str> {
    let text = text.trim();
    let Ok(json) = serde_json::from_str::<Value>(text) else {
        return Ok(text.into());
    };
    match json {
        Value::String(secret) => Ok(secret.into()),
        Value::Array(list) => {
            let texts: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
            Ok(texts.ok_or(ONE_VALUE)?.join(",").into())
        }
        Value::Object(object) => {
            let is_named = |key: &str, name: &str| key.eq_ignore_ascii_case(name);
            let named = [variable].into_iter().chain(KEYS).find_map(|name| {
                let mut entries = object.iter();
                entries.find_map(|(key, value)| is_named(key, name).then_some(value))
            });
            let only = object.values().next().filter(|_| object.len() == 1);
            let secret = named.or(only).and_then(Value::as_str).ok_or(ONE_VALUE)?;
            Ok(secret.to_owned().into())
        }
        // A token may be a number, `true` or `null`.
        _ => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secret_is_found_in_plain_text_and_in_json() {
        for (text, secret) in [
            ("abc", "abc"),
            (" abc\n", "abc"),
            ("\"abc\"", "abc"),
            (r#"{"token":"abc"}"#, "abc"),
            (r#"{"anything": "abc"}"#, "abc"),
            (r#"{"user": "x", "broker_api_token": "abc"}"#, "abc"),
            (r#"{"username": "x", "password": "abc"}"#, "abc"),
            (r#"["a", "b"]"#, "a,b"),
            ("123", "123"),
            ("{abc", "{abc"),
            ("{a}", "{a}"),
        ] {
            assert_eq!(
                secret_in(text, "BROKER_API_TOKEN").unwrap(),
                secret,
                "{text}"
            );
        }
        for text in [
            r#"{"a": "b", "c": "d"}"#,
            r#"{"token": 1}"#,
            r#"{"token": {"a": "b"}}"#,
            "{}",
            "[1]",
        ] {
            assert!(secret_in(text, "BROKER_API_TOKEN").is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_secret_survives_json(secret in crate::arbitrary::text()) {
            for json in [
                serde_json::json!(secret),
                serde_json::json!({ "token": secret }),
                serde_json::json!({ "key": secret }),
            ] {
                let text = json.to_string();
                prop_assert_eq!(secret_in(&text, "X").unwrap(), secret.as_str());
            }
        }
    }
}
