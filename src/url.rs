//! Classification of URLs, and redaction of their secrets.

use std::net::IpAddr;

use axum::http::Uri;

/// Returns whether the host of `url` is a loopback address. An invalid URL is not one.
#[must_use]
pub(crate) fn is_loopback_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    uri.host().is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// Shown in place of secrets.
pub const REDACTED: &str = "[redacted]";

/// Returns `text`, which may be a URL or contain some, without the parts that may be secrets: user and password, query
/// and fragment. The text need not be valid: a password may contain any character.
#[must_use]
pub(crate) fn redact(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| {
        (&text[..scheme.len() + 3], rest)
    });
    let (user, rest) = rest
        .rsplit_once('@')
        .map_or(("", rest), |(_, rest)| ("[redacted]@", rest));
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (shown, hidden) = rest.split_at(end);
    let query = hidden.get(..1).unwrap_or_default();
    let redacted = if hidden.len() > 1 { REDACTED } else { "" };
    format!("{scheme}{user}{shown}{query}{redacted}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn user_query_and_fragment_are_redacted() {
        for (text, shown) in [
            ("https://me:s3cret@host/v2", "https://[redacted]@host/v2"),
            ("me:s3cret@host", "[redacted]@host"),
            (
                "https://me:s3/c?r#e@t@host/v2",
                "https://[redacted]@host/v2",
            ),
            ("https://host/v2?token=s3cret", "https://host/v2?[redacted]"),
            ("https://host/#s3cret", "https://host/#[redacted]"),
            (
                "https://host, https://me:s3cret@host",
                "https://[redacted]@host",
            ),
            ("ftp://host/v2", "ftp://host/v2"),
            ("really?", "really?"),
            ("", ""),
        ] {
            assert_eq!(redact(text), shown, "{text}");
        }
    }

    proptest! {
        #[test]
        fn password_is_never_shown(scheme in "(https?://)?", password in "[^A-Z]{0,9}SECRET[^A-Z]{0,9}", rest in "[a-z./?#]{0,9}") {
            let text = format!("{scheme}me:{password}@{rest}");
            prop_assert!(!redact(&text).contains("SECRET"), "{}", redact(&text));
        }

        #[test]
        fn text_without_secrets_is_unchanged(text in "[a-z0-9:/.,-]{0,20}") {
            prop_assert_eq!(redact(&text), text);
        }
    }
}
