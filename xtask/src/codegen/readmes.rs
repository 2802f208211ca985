//! The generated blocks of every README.

use std::collections::BTreeSet;

use anyhow::{Context, bail};

use super::classes::{Class, Classes, SCHEDULES};
use super::features::{self, Feature};
use super::{Generated, markers, read, tables};
use crate::workspace::{Package, Workspace};

const HYPERPARAMETERS: &str = "hyperparameters";
const UMBRELLA: &str = "optimizers";

/// All READMEs with generated blocks.
pub(super) fn plan(workspace: &Workspace, classes: &Classes) -> Vec<Generated> {
    let umbrella = format!("crates/{UMBRELLA}/README.md");
    let overviews = [
        Generated { text: overview(workspace, "README.md", &local), path: "README.md".to_owned() },
        Generated { text: overview(workspace, &umbrella, &docs_rs), path: umbrella },
    ];
    let names: BTreeSet<_> = classes.all().map(|class| class.package.as_str()).collect();
    let packages = names.into_iter().filter_map(|name| workspace.package(name));
    overviews.into_iter().chain(packages.map(|package| of_package(workspace, classes, package))).collect()
}

/// A link that works in the repository.
fn local(workspace: &Workspace, package: &Package) -> String {
    workspace.folder(package)
}

/// A link that works wherever the README is shown.
fn docs_rs(_workspace: &Workspace, package: &Package) -> String {
    format!("https://docs.rs/{}", package.name)
}

type Link = dyn Fn(&Workspace, &Package) -> String;

/// A document with the tables of crates and features.
fn overview(workspace: &Workspace, path: &str, link: &Link) -> anyhow::Result<String> {
    let Some(document) = read(&workspace.root.join(path))? else {
        bail!("is missing; it is written by hand, with `{}`", markers::start("crates"));
    };
    let crates = tables::crates(workspace.published().map(|package| (package, link(workspace, package))));
    let document = markers::replace(&document, "crates", &crates)?;
    markers::replace(&document, "features", &feature_table(workspace)?)
}

fn feature_table(workspace: &Workspace) -> anyhow::Result<String> {
    let package = workspace.package(UMBRELLA).with_context(|| format!("there is no package {UMBRELLA}"))?;
    let manifest = read(&package.manifest_path)?.context("the umbrella has no manifest")?;
    let default = package.features.get("default").map_or(&[][..], Vec::as_slice);
    let is_default = |feature: &Feature| default.contains(&feature.name);
    Ok(tables::features(&features::read(&manifest)?, is_default))
}

/// The README of a package with classes. It is created if it does not exist.
fn of_package(workspace: &Workspace, classes: &Classes, package: &Package) -> Generated {
    let path = workspace.folder(package) + "/README.md";
    let text = read(&workspace.root.join(&path)).and_then(|document| {
        let document = document.unwrap_or_else(|| frame(package));
        markers::replace(&document, HYPERPARAMETERS, &hyperparameters(classes, package)?)
    });
    Generated { path, text }
}

fn frame(package: &Package) -> String {
    let description = package.description.as_deref().unwrap_or_default();
    format!("# {}\n\n{description}\n\n## Hyperparameters\n\n{}", package.name, markers::empty(HYPERPARAMETERS))
}

/// One table, or one below a heading for each of several classes.
fn hyperparameters(classes: &Classes, package: &Package) -> anyhow::Result<String> {
    let classes: Vec<_> = classes.all().filter(|class| class.package == package.name).collect();
    let section = |class: &&Class| Ok(format!("### {}\n\n{}", class.name, tables::hyperparameters(&class.specs)?));
    match classes[..] {
        [class] if package.name != SCHEDULES => tables::hyperparameters(&class.specs),
        _ => Ok(classes.iter().map(section).collect::<anyhow::Result<Vec<_>>>()?.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::package;

    #[test]
    fn a_frame_has_its_marker() {
        let frame = frame(&package("opt-a", []));
        assert!(frame.starts_with("# opt-a\n\nWhat opt-a is for.\n\n## Hyperparameters\n"), "{frame}");
        assert!(markers::replace(&frame, HYPERPARAMETERS, "text").is_ok());
    }

    #[test]
    fn schedules_have_headings() {
        let classes = Classes::sample();
        let schedules = hyperparameters(&classes, &package(SCHEDULES, [])).unwrap();
        assert!(schedules.starts_with("### CosineDecay\n\n| key |"), "{schedules}");
        let sgd = hyperparameters(&classes, &package("opt-sgd", [])).unwrap();
        assert!(sgd.starts_with("| key |"), "{sgd}");
    }
}
