//! The layers of `src/`, the table of them in `docs/architecture.md`, and the absence of import cycles in all targets.

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
        "private_files",
        "shared",
        "shutdown",
        "telemetry",
        "tls",
        "url",
    ],
    &["domain"],
    &["client", "csp", "store"],
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

/// Describes a forbidden use of one module in another; `None` if it is allowed.
fn violation((importer, target): &Edge) -> Option<String> {
    if TEST_SUPPORT.contains(&importer.as_str()) {
        return None;
    }
    let Some(from) = layer_of(importer) else {
        return Some(format!("the module {importer} is in no layer"));
    };
    let Some(to) = layer_of(target) else {
        return Some(format!("{importer} uses {target}, which is in no layer"));
    };
    let is_allowed = to < from || (from == LEAVES && to == LEAVES);
    (!is_allowed).then(|| format!("{importer} (layer {from}) uses {target} (layer {to})"))
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

#[test]
fn top_level_modules_do_not_use_each_other_in_a_cycle() {
    let mut imports: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (user, used) in edges_of_sources().into_keys() {
        imports.entry(vec![user]).or_default().insert(vec![used]);
    }
    assert_eq!(cycle(&imports), None);
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

/// The path of a module in its crate; empty for the crate root.
type Module = Vec<String>;

/// The folders of the crates that this repository compiles.
const TARGETS: [&str; 5] = [
    "src",
    "benches/allocate",
    "benches/growth",
    "tests/it",
    "tests/protocol",
];

/// The paths in code that start with `root::`, each as its segments after it, with the trees of `use` expanded.
fn paths_from(code: &str, root: &str) -> Vec<Vec<String>> {
    let start = format!("{root}::");
    let mut paths = Vec::new();
    for (at, _) in code.match_indices(&start) {
        let is_part_of_a_path =
            code[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before));
        if !is_part_of_a_path {
            paths.extend(expand(&code[at + start.len()..]));
        }
    }
    paths
}

fn expand(tree: &str) -> Vec<Vec<String>> {
    if let Some(list) = tree.strip_prefix('{') {
        return items_of(list).into_iter().flat_map(expand).collect();
    }
    let head = identifier(tree);
    match tree[head.len()..].strip_prefix("::") {
        Some(rest) => expand(rest)
            .into_iter()
            .map(|mut path| {
                path.insert(0, head.clone());
                path
            })
            .collect(),
        None => vec![vec![head]],
    }
}

/// The items of a braced list, up to its closing brace.
fn items_of(list: &str) -> Vec<&str> {
    let (mut items, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                items.push(list[start..at].trim());
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    items
}

/// The module that a path leads to: the longest prefix of it that is a module.
fn target(from: &[String], root: &str, path: &[String], modules: &BTreeSet<Module>) -> Module {
    let mut module = match root {
        "crate" => Vec::new(),
        "super" => from[..from.len().saturating_sub(1)].to_vec(),
        _ => from.to_vec(),
    };
    for segment in path {
        if segment == "super" {
            module.pop();
            continue;
        }
        module.push(segment.clone());
        if !modules.contains(&module) {
            module.pop();
            break;
        }
    }
    module
}

/// The imports between modules of one folder, from the sources of a crate. An import of a module deeper in a folder counts
/// for the folder; imports between a module and its own parent are left out, because every module has them.
fn sibling_imports(sources: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeSet<Module>> {
    let modules: BTreeSet<Module> = sources.keys().cloned().collect();
    let mut imports: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (from, source) in sources {
        let code = code_only(source);
        // In an inline module of unit tests, `super` is another module.
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for root in ["crate", "self", "super"] {
            for path in paths_from(code, root) {
                let to = target(from, root, &path, &modules);
                let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                if common < from.len() && common < to.len() {
                    imports
                        .entry(from[..=common].to_vec())
                        .or_default()
                        .insert(to[..=common].to_vec());
                }
            }
        }
    }
    imports
}

/// A cycle of imports, as the modules in their order; the first one is also the last one.
fn cycle(imports: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<String>> {
    fn search(
        at: &Module,
        imports: &BTreeMap<Module, BTreeSet<Module>>,
        path: &mut Vec<Module>,
        done: &mut BTreeSet<Module>,
    ) -> bool {
        if let Some(start) = path.iter().position(|module| module == at) {
            path.drain(..start);
            path.push(at.clone());
            return true;
        }
        if done.contains(at) {
            return false;
        }
        path.push(at.clone());
        for next in imports.get(at).into_iter().flatten() {
            if search(next, imports, path, done) {
                return true;
            }
        }
        path.pop();
        done.insert(at.clone());
        false
    }
    let mut done = BTreeSet::new();
    for module in imports.keys() {
        let mut path = Vec::new();
        if search(module, imports, &mut path, &mut done) {
            return Some(path.into_iter().map(|module| module.join("::")).collect());
        }
    }
    None
}

/// The sources of a crate by module.
fn crate_sources(folder: &str) -> BTreeMap<Module, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = source_files(&root);
    assert!(files.len() > 1, "no modules in {folder}");
    files
        .into_iter()
        .map(|file| {
            let relative = file.strip_prefix(&root).unwrap().with_extension("");
            let mut module: Module = relative
                .iter()
                .map(|segment| segment.to_str().unwrap().to_owned())
                .collect();
            if module
                .last()
                .is_some_and(|last| ["main", "lib", "mod"].contains(&last.as_str()))
            {
                module.pop();
            }
            (module, fs::read_to_string(&file).unwrap())
        })
        .collect()
}

#[test]
fn modules_of_one_folder_do_not_import_each_other_in_a_cycle() {
    for folder in TARGETS {
        let imports = sibling_imports(&crate_sources(folder));
        if let Some(cycle) = cycle(&imports) {
            panic!("{folder}: {}", cycle.join(" -> "));
        }
    }
}

#[test]
fn planted_cycle_is_found() {
    let sources = |files: &[(&str, &str)]| {
        let module = |path: &str| path.split("::").map(str::to_owned).collect();
        let files = files.iter();
        files
            .map(|(path, source)| (module(path), (*source).to_owned()))
            .collect()
    };
    let cyclic = sources(&[
        ("a", "use std::fmt;\nuse crate::{x, b::{c::Item, Other}};"),
        ("b", "mod c;\npub use self::c::Item;"),
        ("b::c", "use super::super::d::D;"),
        ("d", "fn f() { super::a::g() }"),
    ]);
    let found = cycle(&sibling_imports(&cyclic)).unwrap();
    assert_eq!(found, ["a", "b", "d", "a"]);
    let acyclic = sources(&[
        ("a", "use super::b;\n// use crate::a::c;"),
        ("a::c", "use super::Parent;"),
        ("b", "mod tests;"),
    ]);
    assert_eq!(cycle(&sibling_imports(&acyclic)), None);
}
