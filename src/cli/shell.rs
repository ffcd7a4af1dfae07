//! Command lines to paste, in messages.

/// Returns a command line of this program. A shell reads its words as they are, whatever they contain.
pub(super) fn command_line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words = [env!("CARGO_PKG_NAME")].into_iter().chain(words);
    let words: Vec<_> = words.map(quote).collect();
    words.join(" ")
}

/// Quotes a word for a shell if it needs that.
fn quote(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@%+=:,./_-".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_words_are_not_quoted() {
        for word in ["2009521", "ada@laptop", "https://broker.example.com/v1"] {
            assert_eq!(quote(word), word);
        }
        assert_eq!(quote("ada's play"), r"'ada'\''s play'");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn shell_reads_the_word_that_was_quoted(word in "[ -~é]{0,12}") {
            let script = format!("printf %s {}", quote(&word));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
