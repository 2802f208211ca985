//! Packages share their common data, and published packages have a description and a README.

use super::Violation;
use super::repository::Repository;
use crate::workspace::Package;

/// Every package describes itself, and takes licence, lints and, if there is one, repository from the workspace.
pub(crate) fn share_their_data(repository: &Repository) -> Vec<Violation> {
    repository.workspace.packages.iter().flat_map(|package| missing_data(repository, package)).collect()
}

fn missing_data(repository: &Repository, package: &Package) -> Vec<Violation> {
    let manifest = repository.manifest(package).map_or("", |file| &file.text);
    let is_blank = package.description.as_ref().is_none_or(|text| text.trim().is_empty());
    let description = is_blank.then_some("description");
    let address = names_an_address(repository).then_some("repository.workspace = true");
    let shared = ["license.workspace = true", "[lints]\nworkspace = true"].into_iter().chain(address);
    let missing = description.into_iter().chain(shared.filter(|text| !has_lines(manifest, text)));
    let path = repository.workspace.manifest(package);
    missing.map(|what| Violation::new("package-data", &path, 0, format!("lacks {what:?}"))).collect()
}

/// Whether the workspace names the address of its repository.
fn names_an_address(repository: &Repository) -> bool {
    let workspace = repository.file("Cargo.toml");
    workspace.is_some_and(|file| file.text.lines().any(|line| line.starts_with("repository = ")))
}

/// Whether a text has these whole lines.
fn has_lines(text: &str, lines: &str) -> bool {
    format!("\n{text}\n").contains(&format!("\n{lines}\n"))
}

/// Every published package has a README.
pub(crate) fn have_a_readme(repository: &Repository) -> Vec<Violation> {
    let paths = repository.workspace.published().map(|package| repository.workspace.folder(package) + "/README.md");
    let missing = paths.filter(|path| repository.file(path).is_none());
    missing.map(|path| Violation::new("package-readme", &path, 0, "is missing")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Sample, package};

    const MANIFEST: &str = "[package]\nlicense.workspace = true\n\n[lints]\nworkspace = true";

    fn sample(manifest: &str) -> Sample {
        Sample::new([("crates/opt-a/Cargo.toml", manifest)]).packages([package("opt-a", [])])
    }

    #[test]
    fn shared_data_must_be_shared() {
        assert_eq!(sample(MANIFEST).broken(share_their_data), [""; 0]);
        for line in ["license.workspace = true", "\nworkspace = true"] {
            let manifest = MANIFEST.replace(line, "\nother = 1");
            assert_eq!(sample(&manifest).broken(share_their_data), ["crates/opt-a/Cargo.toml:0"], "{line}");
        }
    }

    #[test]
    fn an_address_is_shared_once_there_is_one() {
        let root = "[workspace.package]\nrepository = \"https://example.org/repository\"\n";
        let broken = |manifest: &str| {
            let sample = Sample::new([("Cargo.toml", root), ("crates/opt-a/Cargo.toml", manifest)]);
            sample.packages([package("opt-a", [])]).broken(share_their_data)
        };
        assert_eq!(broken(MANIFEST), ["crates/opt-a/Cargo.toml:0"]);
        assert_eq!(broken(&MANIFEST.replacen('\n', "\nrepository.workspace = true\n", 1)), [""; 0]);
    }

    #[test]
    fn a_package_must_describe_itself() {
        let silent = Package { description: None, ..package("opt-a", []) };
        assert_eq!(sample(MANIFEST).packages([silent]).broken(share_their_data).len(), 1);
    }

    #[test]
    fn published_packages_need_a_readme() {
        let files = [("crates/opt-a/README.md", "text")];
        assert_eq!(Sample::new(files).packages([package("opt-a", [])]).broken(have_a_readme), [""; 0]);
        let sample = Sample::new([]).packages([package("opt-a", []), package("xtask", [])]);
        assert_eq!(sample.broken(have_a_readme), ["crates/opt-a/README.md:0"]);
    }
}
