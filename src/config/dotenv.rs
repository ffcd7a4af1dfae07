//! The reader of `.env`, by the rules of python-dotenv, which read the same file for the FastAPI service: `$` is an
//! ordinary character, and only `${NAME}` and `${NAME:-default}` are replaced.
//!
//! It differs in three ways, each where python-dotenv would silently lose a setting: a line that is not an assignment is
//! an error and not skipped; a `${NAME}` that is not set is an error and not an empty text; a byte order mark is not part
//! of the first name. Variables of the dynamic loader are errors too.

use thiserror::Error;

use super::Variables;

/// The error for a `.env` that cannot be used. It contains no part of the file, which may hold secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("line {line} of .env {fault}")]
pub struct DotenvError {
    /// The number of the line, from 1.
    pub line: usize,
    fault: &'static str,
}

const NOT_AN_ASSIGNMENT: &str =
    "is not NAME=value; a value with a quote in front needs one at its end";
const NOT_SET: &str =
    "uses a ${NAME} that is not set; set it, or write ${NAME:-} if it may be empty";
const HAS_NUL: &str = "has a NUL character";
const OF_THE_LOADER: &str =
    "sets a variable of the dynamic loader, which would run other code before this program";

/// Returns the variables that the file with this text adds to `environment`. A variable that the environment sets, in
/// upper or lower case, is left as it is.
///
/// # Errors
/// [`DotenvError`] for the first line that cannot be read.
pub fn additions(text: &str, environment: &Variables) -> Result<Variables, DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut file = Variables::new();
    for assignment in assignments(&text)? {
        let known = |name: &str| file.get(name).or_else(|| environment.get(name));
        let value = interpolate(&assignment.value, known).ok_or(DotenvError {
            line: assignment.line,
            fault: NOT_SET,
        })?;
        file.insert(assignment.name, value);
    }
    file.retain(|name, _| {
        !environment
            .keys()
            .any(|other| other.eq_ignore_ascii_case(name))
    });
    Ok(file)
}

#[derive(Debug)]
struct Assignment {
    line: usize,
    name: String,
    value: String,
}

fn assignments(text: &str) -> Result<Vec<Assignment>, DotenvError> {
    let mut cursor = Cursor { text, rest: text };
    let mut assignments = Vec::new();
    loop {
        cursor.take_while(char::is_whitespace);
        let line = cursor.line();
        if cursor.rest.is_empty() {
            return Ok(assignments);
        }
        let fault = |fault| DotenvError { line, fault };
        cursor.skip_export();
        if !cursor.rest.starts_with('#') {
            let (name, value) = cursor.assignment().ok_or(fault(NOT_AN_ASSIGNMENT))?;
            if name.contains('\0') || value.contains('\0') {
                return Err(fault(HAS_NUL));
            }
            if is_of_the_loader(&name) {
                return Err(fault(OF_THE_LOADER));
            }
            assignments.push(Assignment { line, name, value });
        }
        cursor.end_of_line().ok_or(fault(NOT_AN_ASSIGNMENT))?;
    }
}

/// Whether the dynamic loader reads the variable. Python read `.env` when it was running already, but this program is
/// started anew, and its working directory may belong to somebody else.
fn is_of_the_loader(name: &str) -> bool {
    name.starts_with("LD_") || name.starts_with("DYLD_") || name == "GLIBC_TUNABLES"
}

/// The part of a file that is not read yet. Its methods return `None` for text without the required form.
struct Cursor<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn line(&self) -> usize {
        let read = &self.text[..self.text.len() - self.rest.len()];
        read.matches('\n').count() + 1
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let (taken, rest) = self
            .rest
            .split_at(self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn take(&mut self, prefix: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(prefix)?;
        Some(())
    }

    fn skip_export(&mut self) {
        if let Some(rest) = self.rest.strip_prefix("export")
            && rest.starts_with(is_blank)
        {
            self.rest = rest.trim_start_matches(is_blank);
        }
    }

    /// A name without `=` counts as a variable with an empty value.
    fn assignment(&mut self) -> Option<(String, String)> {
        let name = if self.take('\'').is_some() {
            let name = self.take_while(|c| c != '\'');
            self.take('\'')?;
            name
        } else {
            self.take_while(|c| !c.is_whitespace() && !"=#".contains(c))
        };
        // The operating system takes no name with `=`.
        if name.is_empty() || name.contains('=') {
            return None;
        }
        self.take_while(is_blank);
        if self.take('=').is_none() {
            return Some((name.to_owned(), String::new()));
        }
        self.take_while(is_blank);
        let value = match self.rest.chars().next() {
            Some(quote @ '\'') => unescape(self.quoted(quote)?, r"\'"),
            Some(quote @ '"') => unescape(self.quoted(quote)?, r#"\'"abfnrtv"#),
            _ => without_comment(self.take_while(|c| c != '\n')).to_owned(),
        };
        Some((name.to_owned(), value))
    }

    /// Returns the text between two quotes, which may have several lines. If every further quote has a backslash, the
    /// last one ends the text nevertheless.
    fn quoted(&mut self, quote: char) -> Option<&'a str> {
        self.take(quote)?;
        let mut end = None;
        for (at, _) in self.rest.match_indices(quote) {
            end = Some(at);
            if !self.rest[..at].ends_with('\\') {
                break;
            }
        }
        let (text, rest) = self.rest.split_at(end?);
        self.rest = &rest[quote.len_utf8()..];
        Some(text)
    }

    fn end_of_line(&mut self) -> Option<()> {
        self.take_while(is_blank);
        if self.rest.starts_with('#') {
            self.take_while(|c| c != '\n');
        }
        (self.rest.is_empty() || self.rest.starts_with('\n')).then_some(())
    }
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() && c != '\n'
}

/// Cuts a comment, which begins with `#` after a blank, off a value without quotes.
fn without_comment(text: &str) -> &str {
    let is_start = |at: usize| text[..at].ends_with(char::is_whitespace);
    let comment = text
        .match_indices('#')
        .find_map(|(at, _)| is_start(at).then_some(at));
    text[..comment.unwrap_or(text.len())].trim_end()
}

/// Replaces a backslash and one of the characters in `escapes`. Any other backslash stays.
fn unescape(text: &str, escapes: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        rest = match after.chars().next() {
            Some(c) if escapes.contains(c) => {
                plain.push(match c {
                    'a' => '\x07',
                    'b' => '\x08',
                    'f' => '\x0c',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\x0b',
                    other => other,
                });
                &after[c.len_utf8()..]
            }
            _ => {
                plain.push('\\');
                after
            }
        };
    }
    plain + rest
}

/// Replaces `${NAME}` and `${NAME:-default}`. Returns `None` if a name without a default is not known.
fn interpolate<'a>(text: &str, known: impl Fn(&str) -> Option<&'a String>) -> Option<String> {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        whole.push_str(before);
        let inner = reference[2..].split_once('}');
        let parts = inner.map(|(inner, after)| match inner.split_once(':') {
            None => Some((inner, None, after)),
            Some((name, default)) => Some((name, Some(default.strip_prefix('-')?), after)),
        });
        let Some(Some((name, default, after))) = parts else {
            whole.push_str("${");
            rest = &reference[2..];
            continue;
        };
        whole.push_str(known(name).map(String::as_str).or(default)?);
        rest = after;
    }
    Some(whole + rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Variables, DotenvError> {
        additions(text, &Variables::new())
    }

    #[test]
    fn values_are_those_that_python_dotenv_reads() {
        // The right column is the output of python-dotenv 1.0.0.
        for (text, value) in [
            ("A=Tr4ck$ecret9", "Tr4ck$ecret9"),
            ("A=$ecretAdmin1", "$ecretAdmin1"),
            ("A=$", "$"),
            ("A=a$$b", "a$$b"),
            ("A='Tr4ck$ecret9'", "Tr4ck$ecret9"),
            ("A=\"Tr4ck$ecret9\"", "Tr4ck$ecret9"),
            ("A=", ""),
            ("A", ""),
            ("A=''", ""),
            ("A=\"\"", ""),
            ("  A = b  ", "b"),
            ("export A=b", "b"),
            ("export\t A=b", "b"),
            ("'A'=b", "b"),
            ("A=b # comment", "b"),
            ("A=b#c", "b#c"),
            ("A= #b", "#b"),
            ("A=b\t#c # d", "b"),
            ("A='b' # comment", "b"),
            ("A='b'# comment", "b"),
            ("A=\"b # c\"", "b # c"),
            ("A=my very secret token", "my very secret token"),
            ("A=b=c", "b=c"),
            (r"A=b\nc", r"b\nc"),
            (r#"A="b\nc""#, "b\nc"),
            (r"A='b\nc'", r"b\nc"),
            (
                r#"A="\a\b\f\r\t\v\\\'\"\x""#,
                "\x07\x08\x0c\r\t\x0b\\'\"\\x",
            ),
            (r"A='b\'c\\d\x'", r"b'c\d\x"),
            (r"A='C:\labs\'", r"C:\labs\"),
            ("A=\"b\nc\"", "b\nc"),
            ("A='b\r\nc'", "b\nc"),
            ("A=b'c", "b'c"),
            ("A=${A:-b}c", "bc"),
            ("A=${B:-}", ""),
            ("A=${B:b}", "${B:b}"),
            ("A=${", "${"),
            ("A='${B:-b}'", "b"),
            ("A=b\rB=c", "b"),
            ("A=\u{e4}\u{1f511}", "\u{e4}\u{1f511}"),
        ] {
            let read = read(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(read.get("A").map(String::as_str), Some(value), "{text:?}");
        }
    }

    #[test]
    fn comments_line_ends_and_a_byte_order_mark_are_no_part_of_names_and_values() {
        let text = "\u{feff}A=1\r\n\r\n# B=2\n  # C\nexport D=4 # d\r\n\n";
        let expected = [("A", "1"), ("D", "4")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(read(text).unwrap(), Variables::from(expected));
    }

    #[test]
    fn later_lines_replace_earlier_ones_and_may_use_them() {
        let file = read("A=1\nB=${A}2\nA=3\nC=${A}${B}").unwrap();
        assert_eq!((file["A"].as_str(), file["C"].as_str()), ("3", "312"));
    }

    #[test]
    fn environment_takes_precedence_in_any_case_also_if_it_is_empty() {
        let environment = [("PORT", "1"), ("broker_api_token", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let added = additions(
            "PORT=2\nBROKER_API_TOKEN=a\nHOST=::1\nB=${PORT}",
            &environment,
        );
        let added = added.unwrap();
        assert_eq!(added.keys().collect::<Vec<_>>(), ["B", "HOST"]);
        // As in python-dotenv, the file's own value is the one that it refers to.
        assert_eq!(added["B"], "2");
    }

    #[test]
    fn line_that_cannot_be_read_is_an_error_with_its_number() {
        for (text, line) in [
            ("A=1\n=2", 2),
            ("A=1\r\n\r\nmy secret token", 3),
            ("A=1\rA='open\nB=2", 2),
            ("A=\"open", 1),
            ("A='b' c", 1),
            ("# \n'A=1'=2", 2),
            ("''=1", 1),
            ("A=${NOT_SET}", 1),
            ("A=\n\nB=a\0b", 3),
            ("A=1\nLD_PRELOAD=./a.so", 2),
            ("export LD_LIBRARY_PATH=.", 1),
            ("ld_audit=a\nLD_AUDIT=a", 2),
            ("GLIBC_TUNABLES=a", 1),
        ] {
            assert_eq!(read(text).unwrap_err().line, line, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_variables_that_the_system_takes_or_an_error(text in crate::arbitrary::text()) {
            for (name, value) in read(&text).unwrap_or_default() {
                prop_assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
            }
        }

        #[test]
        fn any_plain_secret_is_read_unchanged(secret in "[!-~&&[^#'\"{\\\\]]{1,40}") {
            for line in [format!("A={secret}"), format!("A='{secret}'"), format!("A=\"{secret}\"")] {
                prop_assert_eq!(&read(&line).unwrap()["A"], &secret);
            }
        }
    }
}
