//! Dependencies among our packages point one way.

use super::Violation;
use super::repository::Repository;
use crate::workspace::{Dependency, Package, Workspace};

/// The crates with one update rule each.
pub(crate) const RULE_CRATES: [&str; 6] =
    ["opt-sgd", "opt-adam", "opt-nadam", "opt-radam", "opt-novograd", "opt-lookahead"];

/// Every dependency is one that the design allows.
pub(crate) fn point_one_way(repository: &Repository) -> Vec<Violation> {
    let workspace = &repository.workspace;
    workspace.packages.iter().flat_map(|package| forbidden(workspace, package)).collect()
}

fn forbidden(workspace: &Workspace, package: &Package) -> Vec<Violation> {
    const LAW: &str = "dependencies";
    let path = workspace.manifest(package);
    let Some(allowed) = allowed(&package.name) else {
        let text = format!("nothing says what `{}` may depend on: add it to xtask's laws", package.name);
        return vec![Violation::new(LAW, &path, 0, text)];
    };
    let edges = workspace.edges(package).filter(|edge| !edge.is_dev() && !allowed(&edge.name));
    edges.map(|edge| Violation::new(LAW, &path, 0, format!("must not depend on `{}`", edge.name))).collect()
}

/// The packages that a package may depend on, outside its tests.
fn allowed(package: &str) -> Option<fn(&str) -> bool> {
    match package {
        "opt-core" | "opt-derive" => Some(|_| false),
        "opt-schedules" | "opt-mesh" | "opt-checkpoint" | "opt-gpu" => Some(|other| other == "opt-core"),
        rule if RULE_CRATES.contains(&rule) => Some(|other| other == "opt-core"),
        "opt-conformance" => {
            Some(|other| ["opt-checkpoint", "opt-core", "opt-mesh", "opt-schedules", "optimizers"].contains(&other))
        }
        "optimizers" => Some(|other| other.starts_with("opt-") && other != "opt-conformance"),
        "tests" | "loops" | "benches" | "criterion-benches" | "gpu-benches" | "xtask" => Some(|_| true),
        _ => None,
    }
}

/// A dependency of tests is published only if it can be published first.
///
/// A published manifest keeps a dev-dependency that has a version, and leaves out one by path alone.
pub(crate) fn tests_make_no_cycle(repository: &Repository) -> Vec<Violation> {
    let workspace = &repository.workspace;
    workspace.published().flat_map(|package| impossible(workspace, package)).collect()
}

fn impossible(workspace: &Workspace, package: &Package) -> Vec<Violation> {
    let path = workspace.manifest(package);
    let edges = workspace.edges(package).filter(|edge| edge.is_dev() && edge.is_published());
    edges
        .filter_map(|edge| why_impossible(workspace, package, edge))
        .map(|text| Violation::new("dev-dependencies", &path, 0, text))
        .collect()
}

fn why_impossible(workspace: &Workspace, package: &Package, edge: &Dependency) -> Option<String> {
    let target = workspace.package(&edge.name)?;
    let why = if !target.is_published() {
        "is not published"
    } else if reaches(workspace, target, &package.name) {
        "needs this package"
    } else {
        return None;
    };
    Some(format!("`{}` {why}: give the dev-dependency a path and no version", target.name))
}

/// Whether the published form of a package needs another one, directly or not.
fn reaches(workspace: &Workspace, from: &Package, to: &str) -> bool {
    let mut seen = vec![from.name.as_str()];
    let mut next = 0;
    while let Some(package) = seen.get(next).and_then(|name| workspace.package(name)) {
        let needed = workspace.edges(package).filter(|edge| edge.is_published());
        let new: Vec<_> = needed.map(|edge| edge.name.as_str()).filter(|name| !seen.contains(name)).collect();
        seen.extend(new);
        next += 1;
    }
    seen.contains(&to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Sample, dev, normal, package, path_dev};

    fn workspace<const N: usize>(packages: [Package; N]) -> Sample {
        Sample::new([]).packages(packages)
    }

    #[test]
    fn allowed_dependencies_pass() {
        let sample = workspace([
            package("opt-core", [path_dev("opt-sgd")]),
            package("opt-schedules", [normal("opt-core")]),
            package("opt-sgd", [normal("opt-core"), dev("opt-schedules"), normal("rayon")]),
            package("opt-conformance", [normal("opt-core"), normal("opt-schedules")]),
            package("optimizers", [normal("opt-core"), normal("opt-sgd")]),
            package("tests", [normal("optimizers"), normal("opt-conformance")]),
        ]);
        assert!(sample.broken(point_one_way).is_empty());
        assert!(sample.broken(tests_make_no_cycle).is_empty());
    }

    #[test]
    fn other_dependencies_do_not() {
        let sample = workspace([
            package("opt-core", [normal("opt-derive")]),
            package("opt-derive", [normal("opt-core")]),
            package("opt-conformance", [normal("opt-sgd")]),
            package("opt-sgd", [normal("opt-nadam")]),
            package("opt-nadam", [normal("opt-conformance")]),
            package("opt-schedules", [normal("optimizers")]),
            package("optimizers", [normal("opt-conformance")]),
        ]);
        assert_eq!(sample.broken(point_one_way).len(), 7);
    }

    #[test]
    fn a_new_package_must_be_given_its_place() {
        assert_eq!(workspace([package("opt-new", [])]).broken(point_one_way), ["crates/opt-new/Cargo.toml:0"]);
    }

    #[test]
    fn a_versioned_dependency_of_tests_must_not_come_back() {
        let direct = workspace([package("opt-core", [dev("opt-sgd")]), package("opt-sgd", [normal("opt-core")])]);
        assert_eq!(direct.broken(tests_make_no_cycle), ["crates/opt-core/Cargo.toml:0"]);
        let through_tests = workspace([package("opt-a", [dev("opt-b")]), package("opt-b", [dev("opt-a")])]);
        assert_eq!(through_tests.broken(tests_make_no_cycle).len(), 2);
    }

    #[test]
    fn a_versioned_dependency_of_tests_must_be_published() {
        let sample = workspace([package("opt-a", [dev("tests")]), package("tests", [])]);
        assert_eq!(sample.broken(tests_make_no_cycle), ["crates/opt-a/Cargo.toml:0"]);
    }
}
