//! ARCHITECTURE.md names exactly the packages that exist.

use std::sync::LazyLock;

use regex::Regex;

use super::Violation;
use super::markdown::{self, Line};
use super::repository::{File, Repository};

const LAW: &str = "architecture";
const PATH: &str = "ARCHITECTURE.md";

/// Every package is named in backticks.
pub(crate) fn packages_are_named(repository: &Repository) -> Vec<Violation> {
    let Some(document) = repository.file(PATH) else { return Vec::new() };
    let lines = markdown::lines(&document.text);
    let text = lines.iter().filter(|line| line.block.is_none());
    let named: Vec<&str> = text.flat_map(Line::code).map(package_part).collect();
    let members = repository.workspace.packages.iter().map(|package| package.name.as_str());
    let folders =
        repository.files.iter().filter_map(|file| file.path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml"));
    let outside = folders.filter(|folder| repository.workspace.package(folder).is_none());
    let missing = members.chain(outside).filter(|name| !named.contains(name));
    missing.map(|name| Violation::new(LAW, PATH, 0, format!("does not name `{name}`"))).collect()
}

/// Every package and path that is named exists.
pub(crate) fn names_exist(repository: &Repository) -> Vec<Violation> {
    let Some(document) = repository.file(PATH) else { return Vec::new() };
    let lines = markdown::lines(&document.text);
    lines.iter().flat_map(|line| missing_in(line, repository, document)).collect()
}

fn missing_in(line: &Line<'_>, repository: &Repository, document: &File) -> Vec<Violation> {
    static PACKAGE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bopt-[a-z][a-z0-9-]*").expect("valid"));
    let in_block = line.block.map(|_| line.text);
    let spans: Vec<&str> = in_block.into_iter().chain(line.code().filter(|_| in_block.is_none())).collect();
    let names = spans.iter().flat_map(|span| PACKAGE.find_iter(span)).map(|name| name.as_str());
    // A package may be outside the workspace.
    let exists = |name: &str| repository.exists(&format!("crates/{name}/Cargo.toml"));
    let unknown = names.filter(|name| repository.workspace.package(name).is_none() && !exists(name));
    let paths = spans.iter().copied().filter(|span| is_path(span, repository));
    let dangling = paths.filter(|path| !leads_somewhere(path, repository));
    let violation = |name| Violation::new(LAW, &document.path, line.number, format!("`{name}` does not exist"));
    unknown.chain(dangling).map(violation).collect()
}

/// The package of `opt-core`, `opt-core/src/rule.rs` or `crates/opt-core/src`.
fn package_part(span: &str) -> &str {
    let path = span.strip_prefix("crates/").unwrap_or(span);
    path.split('/').next().unwrap_or(path)
}

/// Whether a code span is a path from the root or from the folder of a package, without wildcards.
fn is_path(span: &str, repository: &Repository) -> bool {
    let is_plain = !span.contains(|c: char| c.is_whitespace() || "*{}<>:".contains(c));
    let in_package = repository.workspace.package(package_part(span)).is_some();
    is_plain && span.contains('/') && (span.starts_with("crates/") || in_package)
}

fn leads_somewhere(path: &str, repository: &Repository) -> bool {
    repository.exists(path) || repository.exists(&format!("crates/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Sample, package};
    use crate::tidy::Law;

    fn broken(law: Law, text: &str) -> Vec<String> {
        let sample = Sample::new([(PATH, text), ("crates/opt-a/src/lib.rs", ""), ("tests/b.rs", "")]);
        sample.packages([package("opt-a", []), package("tests", [])]).broken(law)
    }

    #[test]
    fn every_package_must_be_named() {
        assert!(broken(packages_are_named, "`opt-a` and `tests`").is_empty());
        assert!(broken(packages_are_named, "`crates/opt-a/src` and `tests/b.rs`").is_empty());
        assert_eq!(broken(packages_are_named, "`opt-a` and tests").len(), 1);
        assert_eq!(broken(packages_are_named, "`opt-ab`").len(), 2);
    }

    #[test]
    fn packages_outside_the_workspace_count() {
        let files = |text| Sample::new([(PATH, text), ("crates/opt-b/Cargo.toml", "")]);
        assert_eq!(files("text").broken(packages_are_named).len(), 1);
        assert!(files("`opt-b`").broken(packages_are_named).is_empty());
        assert!(files("`opt-b`").broken(names_exist).is_empty());
    }

    #[test]
    fn what_is_named_must_exist() {
        let clean = "`opt-a`, `crates/opt-a/src/lib.rs`, `opt-a/src`, `tests/`, `crates/*/src`, opt-b\n\n`a/b` `opt`\n";
        assert!(broken(names_exist, clean).is_empty());
        assert_eq!(broken(names_exist, "\nSee `opt-b`."), ["ARCHITECTURE.md:2"]);
        assert_eq!(broken(names_exist, "`crates/opt-a/src/rule.rs`"), ["ARCHITECTURE.md:1"]);
        assert_eq!(broken(names_exist, "`opt-a/src/rule.rs` and `tests/c.rs`").len(), 2);
        assert_eq!(broken(names_exist, "```text\ncrates/\n  opt-b/\n```"), ["ARCHITECTURE.md:3"]);
    }
}
