//! The claims about a person, which the load balancer has from the provider's user info endpoint.

use serde_json::{Map, Value};

use super::SignInError;

/// The longest subject (OpenID Connect Core 1.0, section 2) and the longest e-mail address, in characters.
const MAX_NAME: usize = 255;

/// The claims of a person, with a subject.
#[derive(Debug)]
pub(super) struct Claims {
    /// `sub`: the id of the person at the provider.
    pub(super) subject: String,
    /// `email` in lower case, unless the provider says that it has not verified it.
    pub(super) email: Option<String>,
    all: Map<String, Value>,
}

impl Claims {
    /// Reads the claims.
    ///
    /// # Errors
    /// [`SignInError::NoSubject`].
    pub(super) fn read(all: Map<String, Value>) -> Result<Self, SignInError> {
        let subject = name_in(&all, "sub")
            .ok_or(SignInError::NoSubject)?
            .to_owned();
        let email = name_in(&all, "email")
            .filter(|email| is_address(email) && !is_denied(all.get("email_verified")))
            .map(str::to_ascii_lowercase);
        Ok(Self {
            subject,
            email,
            all,
        })
    }

    /// Returns the texts of a claim that is a text or a list of texts. A text is one value, even with separators in it.
    pub(super) fn texts(&self, claim: &str) -> Vec<&str> {
        match self.all.get(claim) {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

/// Returns a claim that can be the name of a principal: short text of visible ASCII characters, which is safe in a log
/// and on a page. The standard requires ASCII for `sub`.
fn name_in<'a>(claims: &'a Map<String, Value>, claim: &str) -> Option<&'a str> {
    let text = claims.get(claim)?.as_str()?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    ((1..=MAX_NAME).contains(&text.len()) && is_plain).then_some(text)
}

fn is_address(text: &str) -> bool {
    text.split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@'))
}

/// Whether a claim is `false`, which Amazon Cognito writes as text.
fn is_denied(claim: Option<&Value>) -> bool {
    match claim {
        Some(Value::Bool(value)) => !value,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("false"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Result<Claims, SignInError> {
        match value {
            Value::Object(all) => Claims::read(all),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn address_counts_unless_the_provider_denies_it() {
        let email = |claim: Value| {
            let mut all = json!({"sub": "1", "email": "Jo@Example.com"});
            all["email_verified"] = claim;
            claims(all).unwrap().email
        };
        for accepted in [json!(true), json!("true"), Value::Null] {
            assert_eq!(email(accepted).as_deref(), Some("jo@example.com"));
        }
        for denied in [json!(false), json!("false"), json!("False")] {
            assert_eq!(email(denied), None);
        }
        assert!(claims(json!({"sub": "1"})).unwrap().email.is_none());
        for invalid in [
            "jo",
            "@example.com",
            "jo@",
            "a@b@c",
            "jo @example.com",
            "jo@example.com\n",
        ] {
            let all = json!({"sub": "1", "email": invalid});
            assert_eq!(claims(all).unwrap().email, None, "{invalid:?}");
        }
    }

    #[test]
    fn subject_is_required_and_has_to_be_short_and_visible() {
        for invalid in [
            json!({}),
            json!({"email": "jo@example.com"}),
            json!({"sub": ""}),
            json!({"sub": 7}),
            json!({"sub": "a\nb"}),
            json!({"sub": "a b"}),
            json!({"sub": "jos\u{e9}"}),
            json!({"sub": "\u{202e}oj"}),
            json!({"sub": "x".repeat(256)}),
        ] {
            let read = claims(invalid.clone());
            assert_eq!(read.unwrap_err(), SignInError::NoSubject, "{invalid}");
        }
        assert!(claims(json!({"sub": "x".repeat(255)})).is_ok());
    }

    #[test]
    fn groups_are_a_text_or_a_list_of_texts() {
        let groups = |claim: Value| {
            let claims = claims(json!({"sub": "1", "groups": claim})).unwrap();
            claims.texts("groups").join("|")
        };
        assert_eq!(groups(json!(["a", 7, null, "b c"])), "a|b c");
        assert_eq!(groups(json!("a,b")), "a,b");
        for none in [json!([]), json!({"a": "b"}), json!(7), Value::Null] {
            assert_eq!(groups(none), "");
        }
    }
}
