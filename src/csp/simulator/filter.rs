//! Filters of lists, as far as clients use them: one attribute that equals a text.
//!
//! The grammar is that of Infoblox's open-source API toolkit (`query/filtering_lexer.go` of atlas-app-toolkit): a text
//! is in double or single quotes, and such a quote within it is doubled.

use axum::{extract::Query, http::Uri};
use serde::Deserialize;

#[derive(Default, Deserialize)]
struct Parameters {
    #[serde(rename = "_filter")]
    filter: Option<String>,
}

/// Returns the text that `attribute` has to equal by the filter of a query; `None` without a filter.
///
/// # Errors
/// The filter is another one. Contains a message.
pub(super) fn wanted(uri: &Uri, attribute: &str) -> Result<Option<String>, String> {
    let Query(Parameters { filter }) =
        Query::try_from_uri(uri).map_err(|fault| fault.body_text())?;
    let Some(filter) = filter else {
        return Ok(None);
    };
    parse(&filter, attribute)
        .map(Some)
        .ok_or_else(|| format!("unsupported filter '{filter}', expected {attribute}==\"...\""))
}

fn parse(filter: &str, attribute: &str) -> Option<String> {
    let value = filter.trim().strip_prefix(attribute)?.trim_start();
    let value = value.strip_prefix("==")?.trim_start();
    let quote = value
        .chars()
        .next()
        .filter(|first| "\"'".contains(*first))?;
    let mut quoted = value.strip_prefix(quote)?.strip_suffix(quote)?.chars();
    let mut text = String::new();
    while let Some(next) = quoted.next() {
        if next == quote && quoted.next() != Some(quote) {
            return None;
        }
        text.push(next);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name_in(query: &str) -> Result<Option<String>, String> {
        wanted(
            &format!("/v2/sandbox/accounts?{query}").parse().unwrap(),
            "name",
        )
    }

    #[test]
    fn filter_may_be_encoded_and_have_white_space() {
        for query in [
            "_filter=name==%22lab-1%22",
            "_filter=name%3D%3D%22lab-1%22",
            "_filter=name%20==%20%27lab-1%27",
            "_filter=name+==+%22lab-1%22&_limit=3",
        ] {
            assert_eq!(name_in(query), Ok(Some("lab-1".to_owned())), "{query}");
        }
        assert_eq!(name_in("_limit=3"), Ok(None));
    }

    #[test]
    fn unsupported_filter_is_named() {
        for filter in [
            "",
            "name",
            "name==lab",
            "name==%22lab",
            "name==%22a%22%20or%20name==%22b%22",
            "name==%22a%22b%22",
            "name!=%22lab%22",
            "names==%22lab%22",
            "id==%22lab%22",
        ] {
            let fault = name_in(&format!("_filter={filter}")).unwrap_err();
            assert!(fault.starts_with("unsupported filter"), "{filter}: {fault}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_read_as_it_was_quoted(name in crate::arbitrary::text()) {
            for quote in ['"', '\''] {
                let doubled = name.replace(quote, &format!("{quote}{quote}"));
                let filter = format!("name=={quote}{doubled}{quote}");
                prop_assert_eq!(parse(&filter, "name"), Some(name.clone()));
            }
        }
    }
}
