//! `cargo xtask release`: checks that everything could be published, and prints the order.

use std::fs;

use anyhow::{Context, bail};

use crate::cargo::Call;
use crate::workspace::{Package, Workspace};

/// Checks the changelog and packs every crate, without publishing any.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let order = order(workspace)?;
    let version = &order.first().context("nothing is published")?.version;
    check_changelog(workspace, version)?;
    dry_run(workspace).run()?;
    if order.iter().all(|package| package.repository.is_none()) {
        println!("no `repository` is named in Cargo.toml: readers of a registry will look for one");
    }
    println!("release {version}: everything packs; the order of publishing is");
    for (index, package) in order.iter().enumerate() {
        println!("{:>3}. {}", index + 1, package.name);
    }
    Ok(())
}

fn dry_run(workspace: &Workspace) -> Call {
    let unpublished = workspace.packages.iter().filter(|package| !package.is_published());
    unpublished.fold(Call::new("publish --workspace --dry-run --allow-dirty"), |call, package| {
        call.arg("--exclude").arg(&package.name)
    })
}

fn check_changelog(workspace: &Workspace, version: &str) -> anyhow::Result<()> {
    let path = workspace.root.join("CHANGELOG.md");
    let text = fs::read_to_string(path).context("cannot read CHANGELOG.md")?;
    if !has_section(&text, version) {
        bail!("CHANGELOG.md has no section for version {version}: expected a heading `## {version}`");
    }
    Ok(())
}

/// Whether there is a heading `## 1.2.3` or `## [1.2.3]`, with or without a date behind.
fn has_section(changelog: &str, version: &str) -> bool {
    let headings = changelog.lines().filter_map(|line| line.strip_prefix("## "));
    let mut versions = headings.filter_map(|heading| heading.split_whitespace().next());
    versions.any(|found| found.trim_matches(['[', ']']) == version)
}

/// The published packages, each after its dependencies.
fn order(workspace: &Workspace) -> anyhow::Result<Vec<&Package>> {
    let mut waiting: Vec<_> = workspace.published().collect();
    let mut order = Vec::new();
    while !waiting.is_empty() {
        let is_ready = |package: &&Package| {
            let mut needed = workspace.edges(package).filter(|edge| edge.is_published());
            needed.all(|edge| waiting.iter().all(|other| other.name != edge.name))
        };
        let (ready, rest): (Vec<_>, Vec<_>) = waiting.iter().copied().partition(is_ready);
        if ready.is_empty() {
            let names: Vec<_> = rest.iter().map(|package| package.name.as_str()).collect();
            bail!("these packages need each other, none can be published first: {}", names.join(", "));
        }
        order.extend(ready);
        waiting = rest;
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{dev, normal, package, path_dev, workspace};

    #[test]
    fn sections_are_found_by_version() {
        let changelog = "# Changelog\n\n## [0.2.0] - 2026-01-01\n\n## 0.1.10\n\nAbout 0.1.0.\n";
        assert!(has_section(changelog, "0.2.0") && has_section(changelog, "0.1.10"));
        assert!(!has_section(changelog, "0.1.0") && !has_section(changelog, "0.1.1"));
    }

    #[test]
    fn what_is_needed_comes_first() {
        let workspace = workspace([
            package("a", [normal("b"), dev("c")]),
            package("b", [path_dev("a")]),
            package("c", [normal("b")]),
        ]);
        let names: Vec<_> = order(&workspace).unwrap().into_iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["b", "c", "a"]);
    }

    #[test]
    fn a_cycle_is_an_error() {
        let workspace = workspace([package("a", [normal("b")]), package("b", [dev("a")])]);
        assert!(order(&workspace).unwrap_err().to_string().ends_with("a, b"));
    }

    #[test]
    fn unpublished_packages_are_left_out() {
        let mut workspace = workspace([package("a", []), package("b", [])]);
        workspace.packages[1].publish = Some(Vec::new());
        let call = dry_run(&workspace).to_string();
        assert_eq!(call, "cargo publish --workspace --dry-run --allow-dirty --exclude b");
    }
}
