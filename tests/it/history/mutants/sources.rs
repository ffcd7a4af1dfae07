//! The condition expressions in the sources, found by a scan for `.condition_expression(`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::support::proxy::Condition;

const CALL: &str = ".condition_expression(";

/// A place in the sources that makes a write conditional.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// File and line.
    place: String,
    /// The constant parts of the expression, between the placeholders of `format!`.
    parts: Vec<String>,
}

impl Site {
    /// Returns whether the site can have made this condition.
    pub(super) fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.parts.as_slice() else {
            return self.parts.first().is_some_and(|only| only == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else {
            return false;
        };
        for part in middle {
            let Some(at) = rest.find(part.as_str()) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last.as_str())
    }
}

/// Returns the sites of the crate's sources.
///
/// # Panics
/// If the argument of a call cannot be traced to a string literal.
pub(super) fn sites() -> Vec<Site> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: Vec<_> = source_files(&root.join("src"))
        .into_iter()
        .map(|file| {
            let name = file.strip_prefix(root).unwrap().display().to_string();
            (name, fs::read_to_string(&file).unwrap())
        })
        .collect();
    let constants = sources
        .iter()
        .flat_map(|(_, source)| constants_of(source))
        .collect();
    sources
        .iter()
        .flat_map(|(name, source)| sites_of(name, source, &constants))
        .collect()
}

/// Returns the string constants of a file with their values.
fn constants_of(source: &str) -> BTreeMap<String, String> {
    let declarations = source.match_indices("const ");
    declarations
        .filter_map(|(at, keyword)| {
            let (name, rest) = source[at + keyword.len()..].split_once(": &str =")?;
            let is_name = name.chars().all(|it| it.is_ascii_uppercase() || it == '_');
            let value = rest.trim_start().strip_prefix('"')?.split_once('"')?.0;
            is_name.then(|| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Returns the sites that have no conditional write of their own among `conditions`. Several sites with the same
/// expression need as many writes, which differ in their action.
pub(super) fn not_made(sites: &[Site], conditions: &[Condition]) -> Vec<String> {
    let mut by_expression: BTreeMap<&[String], Vec<&Site>> = BTreeMap::new();
    for site in sites {
        by_expression.entry(&site.parts).or_default().push(site);
    }
    by_expression
        .into_values()
        .filter_map(|sites| {
            let matching = conditions.iter().filter(|it| sites[0].matches(&it.text));
            let made = matching.count();
            let places: Vec<_> = sites.iter().map(|site| site.place.as_str()).collect();
            (made < places.len()).then(|| {
                format!(
                    "{:?} at {}: scenarios make {made} such writes",
                    sites[0].parts.join("{}"),
                    places.join(", ")
                )
            })
        })
        .collect()
}

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn sites_of(file: &str, source: &str, constants: &BTreeMap<String, String>) -> Vec<Site> {
    let mut found = Vec::new();
    for (start, _) in source.match_indices(CALL) {
        let argument = arguments(&source[start + CALL.len()..]);
        let expressions = match literals(argument).into_iter().next() {
            Some(expression) => vec![(start, expression)],
            None => match constants.get(last_segment(argument)) {
                Some(expression) => vec![(start, expression.clone())],
                None => expressions_of(argument.trim(), source, start),
            },
        };
        let line = |at: usize| source[..at].matches('\n').count() + 1;
        assert!(
            !expressions.is_empty(),
            "{file}:{}: no string literal found for the condition {argument}",
            line(start)
        );
        for (at, expression) in expressions {
            found.push(Site {
                place: format!("{file}:{}", line(at)),
                parts: constant_parts(&expression),
            });
        }
    }
    found
}

fn last_segment(path: &str) -> &str {
    path.trim().rsplit("::").next().unwrap_or_default()
}

/// Resolves a variable at `site`: to the literal of its `let`, or, if it is a parameter of the function, to the literals of
/// the function's calls in the file.
fn expressions_of(variable: &str, source: &str, site: usize) -> Vec<(usize, String)> {
    let before = &source[..site];
    let function = before.rfind("fn ").unwrap_or(0);
    if let Some(at) = before.rfind(&format!("let {variable} ="))
        && at > function
    {
        let statement = &source[at..site];
        return literals(statement)
            .into_iter()
            .take(1)
            .map(|expression| (at, expression))
            .collect();
    }
    let signature = &before[function + "fn ".len()..];
    let (name, parameters) = signature.split_once('(').unwrap_or_default();
    if !parameters.contains(&format!("{variable}: ")) {
        return Vec::new();
    }
    let call = format!(".{name}(");
    source
        .match_indices(&call)
        .filter_map(|(at, _)| {
            let expression = literals(arguments(&source[at + call.len()..])).pop()?;
            Some((at, expression))
        })
        .collect()
}

/// Returns the text up to the parenthesis that closes the call.
fn arguments(text: &str) -> &str {
    let (mut depth, mut is_string, mut is_escaped) = (0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_string => is_escaped = true,
            '"' => is_string = !is_string,
            _ if is_string => {}
            '(' => depth += 1,
            ')' if depth == 0 => return &text[..at],
            ')' => depth -= 1,
            _ => {}
        }
    }
    text
}

/// Returns the string literals in a piece of code, with continued lines joined.
fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut characters = code.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '"' {
            continue;
        }
        let mut literal = String::new();
        while let Some(character) = characters.next().filter(|it| *it != '"') {
            if character != '\\' {
                literal.push(character);
            } else if characters.next() == Some('\n') {
                while characters.next_if(|it| it.is_whitespace()).is_some() {}
            } else {
                panic!("an escape in a condition: {code}");
            }
        }
        found.push(literal);
    }
    found
}

/// Splits an expression at the placeholders of `format!`.
fn constant_parts(expression: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = expression;
    while let Some((before, after)) = rest.split_once('{') {
        parts.push(before.to_owned());
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    parts.push(rest.to_owned());
    parts
}

#[test]
fn scan_resolves_literals_variables_parameters_and_constants() {
    let source = r#"
        fn write(&self) {
            let free = "a = :a OR b(c)";
            put.condition_expression(free).key_condition_expression("k = :k");
            put.condition_expression(format!("{free} AND d"))
                .condition_expression("e AND \
                                       f");
        }
        fn put(&self, condition: &str) { put.condition_expression(condition) }
        fn insert(&self) { self.put(item("x"), "g(h)"); }
        const IS_FREE: &str = "i = :i";
        fn take(&self) { put.condition_expression(module::IS_FREE) }
    "#;
    let found: Vec<_> = sites_of("file", source, &constants_of(source))
        .into_iter()
        .map(|site| (site.place, site.parts.join("{}")))
        .collect();
    let expected = [
        ("file:3", "a = :a OR b(c)"),
        ("file:5", "{} AND d"),
        ("file:6", "e AND f"),
        ("file:10", "g(h)"),
        ("file:12", "i = :i"),
    ]
    .map(|(place, parts)| (place.to_owned(), parts.to_owned()));
    assert_eq!(found, expected);
}

#[test]
#[should_panic(expected = "file:1: no string literal found for the condition unknown()")]
fn scan_fails_where_a_condition_cannot_be_resolved() {
    sites_of(
        "file",
        "fn f() { put.condition_expression(unknown()) }",
        &BTreeMap::new(),
    );
}

#[test]
fn conditional_write_without_a_scenario_is_reported() {
    let sites = sites_of(
        "file",
        r#"fn f() { a.condition_expression("x = :x"); b.condition_expression("x = :x"); }"#,
        &BTreeMap::new(),
    );
    let condition = |action: &str, text: &str| Condition {
        action: action.to_owned(),
        text: text.to_owned(),
    };
    let one = [condition("Put A", "x = :x"), condition("Put A", "y = :y")];
    let missing = not_made(&sites, &one);
    assert_eq!(
        missing,
        [r#""x = :x" at file:1, file:1: scenarios make 1 such writes"#]
    );
    let both = [condition("Put A", "x = :x"), condition("Put B", "x = :x")];
    assert!(not_made(&sites, &both).is_empty());
}
