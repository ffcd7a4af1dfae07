//! The tables of `docs/configuration.md` agree with the code.

use std::collections::BTreeMap;

use super::{Config, REDACTED, Setting, Variables};
use crate::auth::{DEFAULT_ADMIN_TOKEN, DEFAULT_TRACK_TOKEN};

const DOCUMENT: &str = include_str!("../../../docs/configuration.md");
const HEADER: &str = "| variable | default | range or values | meaning |";

/// Returns default and values of each variable in the tables of settings.
fn documented() -> BTreeMap<&'static str, (&'static str, &'static str)> {
    let mut lines = DOCUMENT.lines();
    let mut rows = BTreeMap::new();
    while lines.any(|line| line == HEADER) {
        let table = lines.by_ref().take_while(|line| line.starts_with('|'));
        for row in table.filter(|line| !line.starts_with("|---")) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let [_, variable, default, takes, ..] = cells[..] else {
                panic!("not a row of a variable: {row}")
            };
            let code = |cell: &'static str| match cell.trim_matches('`') {
                "(empty)" => "",
                text => text,
            };
            let duplicate = rows.insert(code(variable), (code(default), takes));
            assert!(duplicate.is_none(), "{variable} has two rows");
        }
    }
    rows
}

fn default_of(setting: &Setting) -> &str {
    match setting.variable {
        "BROKER_API_TOKEN" => DEFAULT_TRACK_TOKEN,
        "BROKER_ADMIN_TOKEN" => DEFAULT_ADMIN_TOKEN,
        _ => {
            assert_ne!(setting.value, REDACTED, "{}", setting.variable);
            &setting.value
        }
    }
}

#[test]
fn document_lists_exactly_the_variables_of_the_code_with_defaults_and_values() {
    let config = Config::from_variables(&Variables::new()).unwrap();
    let in_code: BTreeMap<_, _> = config
        .settings()
        .iter()
        .map(|setting| {
            (
                setting.variable,
                (default_of(setting), setting.takes.as_str()),
            )
        })
        .collect();
    assert_eq!(documented(), in_code);
}
