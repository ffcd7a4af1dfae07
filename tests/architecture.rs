//! A module of `src/` uses only modules of lower layers, and its table of layers is the one in `docs/architecture.md`.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the sources has to fail"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules of each layer, from the lowest one up. Modules of one layer do not use each other, except for leaves.
const LAYERS: [&[&str]; 10] = [
    &[
        "aws",
        "backoff",
        "clock",
        "shared",
        "shutdown",
        "telemetry",
        "url",
    ],
    &["domain"],
    &["csp", "store"],
    &["auth", "broker"],
    &["jobs", "secrets"],
    &["http"],
    &["config"],
    &["app"],
    &["cli"],
    &["main"],
];

/// The layer whose modules may use each other, without cycles.
const LEAVES: usize = 0;

/// Modules that only unit tests use.
const TEST_SUPPORT: [&str; 1] = ["arbitrary"];

/// The use of one top-level module in another: the importing one, the imported one.
type Edge = (String, String);

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
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

/// The code without comments and string literals, so that neither can look like a path.
fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut characters = source.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '/' if characters.peek() == Some(&'/') => {
                characters.by_ref().take_while(|next| *next != '\n').count();
                code.push('\n');
            }
            '"' => {
                while let Some(next) = characters.next() {
                    match next {
                        '\\' => {
                            characters.next();
                        }
                        '"' => break,
                        _ => {}
                    }
                }
            }
            // A quotation mark as a character literal.
            '\'' if characters.peek() == Some(&'"') => {
                characters.next();
            }
            other => code.push(other),
        }
    }
    code
}

/// The first segments of every path after `root::`, through the braces of `use` trees.
fn first_segments(code: &str, root: &str) -> BTreeSet<String> {
    let mut segments = BTreeSet::new();
    let separator = format!("{root}::");
    for (start, _) in code.match_indices(&separator) {
        let is_word = code[..start]
            .ends_with(|before: char| before.is_alphanumeric() || "_:$".contains(before));
        if is_word && !code[..start].ends_with('$') {
            continue;
        }
        let rest = &code[start + separator.len()..];
        if let Some(tree) = rest.strip_prefix('{') {
            segments.extend(heads_of_tree(tree));
        } else {
            segments.insert(identifier(rest));
        }
    }
    segments
}

/// The identifiers at the top level of a `use` tree, up to its closing brace.
fn heads_of_tree(tree: &str) -> BTreeSet<String> {
    let mut heads = BTreeSet::new();
    let (mut depth, mut expects_head) = (0, true);
    for (at, character) in tree.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expects_head = true,
            letter if expects_head && (letter.is_alphanumeric() || letter == '_') => {
                heads.insert(identifier(&tree[at..]));
                expects_head = false;
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect()
}

/// The top-level modules that a file of `module` uses.
fn used_modules(module: &str, source: &str) -> BTreeSet<String> {
    let code = code_only(source);
    // `main.rs` is a crate of its own, which uses the library by its name.
    let root = if module == "main" {
        "sandbox_broker"
    } else {
        "crate"
    };
    let mut used = first_segments(&code, root);
    used.remove(module);
    for name in TEST_SUPPORT {
        used.remove(name);
    }
    used
}

fn edges_of_sources() -> BTreeMap<Edge, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut edges = BTreeMap::new();
    for file in source_files(&root) {
        let relative = file.strip_prefix(&root).unwrap();
        let first = relative.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        for used in used_modules(module, &fs::read_to_string(&file).unwrap()) {
            edges.insert((module.to_owned(), used), relative.to_owned());
        }
    }
    edges
}

/// What is wrong with the use of one module in another; `None` if it is allowed.
fn violation((importer, imported): &Edge) -> Option<String> {
    if TEST_SUPPORT.contains(&importer.as_str()) {
        return None;
    }
    let Some(from) = layer_of(importer) else {
        return Some(format!("the module {importer} is in no layer"));
    };
    let Some(to) = layer_of(imported) else {
        return Some(format!("{importer} uses {imported}, which is in no layer"));
    };
    let is_allowed = to < from || (from == LEAVES && to == LEAVES);
    (!is_allowed).then(|| format!("{importer} (layer {from}) uses {imported} (layer {to})"))
}

#[test]
fn modules_use_only_lower_layers() {
    let edges = edges_of_sources();
    assert!(edges.len() > 40, "only {} uses were found", edges.len());
    let violations: Vec<_> = edges
        .iter()
        .filter_map(|(edge, file)| Some(format!("{}: {}", file.display(), violation(edge)?)))
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// The modules that lead back to themselves: what is left when modules that use no other are removed again and again.
fn cyclic_modules(edges: impl Iterator<Item = Edge>) -> BTreeSet<String> {
    let mut edges: Vec<Edge> = edges.collect();
    loop {
        let importers: BTreeSet<String> =
            edges.iter().map(|(importer, _)| importer.clone()).collect();
        let before = edges.len();
        edges.retain(|(_, imported)| importers.contains(imported));
        if edges.len() == before {
            return importers;
        }
    }
}

#[test]
fn no_modules_use_each_other_in_a_cycle() {
    assert_eq!(
        cyclic_modules(edges_of_sources().into_keys()),
        BTreeSet::new()
    );
    let edge = |importer: &str, imported: &str| (importer.to_owned(), imported.to_owned());
    let planted = [
        edge("a", "b"),
        edge("b", "c"),
        edge("c", "b"),
        edge("c", "d"),
    ];
    let cyclic = cyclic_modules(planted.into_iter());
    assert!(cyclic.contains("b") && cyclic.contains("c") && !cyclic.contains("d"));
}

#[test]
fn every_layered_module_exists() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for module in LAYERS.concat() {
        assert!(source.join(format!("{module}.rs")).is_file(), "{module}");
    }
}

#[test]
fn planted_violations_are_found() {
    let uses = |module: &str, source: &str| -> Vec<String> {
        used_modules(module, source)
            .into_iter()
            .filter_map(|used| violation(&(module.to_owned(), used)))
            .collect()
    };
    let upwards = "use crate::{\n    clock::Clock,\n    http::{AppState, error::{ApiError}},\n};\n";
    assert_eq!(
        uses("jobs", upwards),
        ["jobs (layer 4) uses http (layer 5)"]
    );
    let sideways = "fn find(store: &crate::store::PoolStore) {}";
    assert_eq!(
        uses("csp", sideways),
        ["csp (layer 2) uses store (layer 2)"]
    );
    let unknown = "use crate::utilities::helper;";
    assert_eq!(
        uses("csp", unknown),
        ["csp uses utilities, which is in no layer"]
    );
    let allowed = "// use crate::http;\nuse crate::{domain::Status, telemetry::chain};\nlet text = \"crate::http\";";
    assert!(uses("store", allowed).is_empty());
}

#[test]
fn the_table_in_the_docs_is_this_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let document = fs::read_to_string(path).unwrap();
    let mut documented: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for line in document.lines() {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let (Some(layer), Some(modules)) = (cells.next(), cells.next()) else {
            continue;
        };
        if let Ok(layer) = layer.parse() {
            let names = modules
                .split(',')
                .map(|name| name.trim().trim_matches('`').to_owned());
            documented.insert(layer, names.collect());
        }
    }
    let expected: BTreeMap<usize, BTreeSet<String>> = LAYERS
        .iter()
        .enumerate()
        .map(|(layer, modules)| {
            (
                layer,
                modules.iter().map(|module| (*module).to_owned()).collect(),
            )
        })
        .collect();
    assert_eq!(documented, expected);
}
