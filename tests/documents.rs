//! The documents: the table of contents of the site, and the links between Markdown files.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the documents has to fail"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const CONTENTS: &str = "docs/SUMMARY.md";

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

fn markdown_files(folder: &str) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| is_markdown(path))
        .collect()
}

/// The targets of the links of a document, without those in blocks of code.
fn links(document: &str) -> Vec<&str> {
    let outside_of_code = document.split("\n```").step_by(2);
    outside_of_code
        .flat_map(|text| text.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .collect()
}

/// The files that the contents of the site list, relative to `docs`.
fn listed(contents: &str) -> BTreeSet<&str> {
    let targets = links(contents);
    let listed: BTreeSet<_> = targets.iter().copied().collect();
    assert_eq!(listed.len(), targets.len(), "a file is listed twice");
    listed
}

#[test]
fn contents_of_the_site_list_every_document() {
    let contents = fs::read_to_string(CONTENTS).unwrap();
    let listed = listed(&contents);
    for document in markdown_files("docs") {
        let name = document.file_name().unwrap().to_str().unwrap();
        assert!(
            document.ends_with(CONTENTS) || listed.contains(name),
            "{CONTENTS} lacks {name}"
        );
    }
}

#[test]
fn links_of_documents_name_existing_files() {
    let contents = fs::read_to_string(CONTENTS).unwrap();
    let mut documents = markdown_files("docs/decisions");
    documents.push(PathBuf::from(CONTENTS));
    documents.extend(
        listed(&contents)
            .iter()
            .map(|name| Path::new("docs").join(name))
            .filter(|path| is_markdown(path)),
    );
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for target in links(&text) {
            let file = target.split('#').next().unwrap();
            let is_external = target.contains("://") || target.starts_with("mailto:");
            let exists = document.parent().unwrap().join(file).exists();
            assert!(
                is_external || exists,
                "{}: {target} does not exist",
                document.display()
            );
        }
    }
}
