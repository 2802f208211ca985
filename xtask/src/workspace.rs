//! Cargo's metadata of the workspace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use crate::cargo::Call;

/// The workspace and its packages, sorted by name.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Workspace {
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    /// Cargo's target folder.
    pub(crate) target_directory: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// One package of the workspace.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: Option<String>,
    pub(crate) repository: Option<String>,
    /// The registries to which it may be published: `None` for any.
    pub(crate) publish: Option<Vec<String>>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One dependency of a package.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// The required version, `*` for any.
    pub(crate) req: String,
    pub(crate) kind: Option<SpecialKind>,
}

/// The special kinds of dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SpecialKind {
    Build,
    Dev,
}

impl Workspace {
    /// Asks cargo about the workspace of the current folder.
    pub(crate) fn load() -> anyhow::Result<Self> {
        let output = Call::new("metadata --no-deps --format-version 1").output()?;
        let mut workspace: Self = serde_json::from_slice(&output).context("cannot read cargo's metadata")?;
        workspace.packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(workspace)
    }

    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// The published packages.
    pub(crate) fn published(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.is_published())
    }

    /// A package's path below the root, with forward slashes.
    pub(crate) fn folder(&self, package: &Package) -> String {
        let folder = package.manifest_path.parent().unwrap_or(Path::new(""));
        slashes(folder.strip_prefix(&self.root).unwrap_or(folder))
    }

    /// A package's manifest, as a path below the root.
    pub(crate) fn manifest(&self, package: &Package) -> String {
        format!("{}/Cargo.toml", self.folder(package))
    }

    /// A package's dependencies on other packages of the workspace.
    pub(crate) fn edges<'a>(&'a self, package: &'a Package) -> impl Iterator<Item = &'a Dependency> {
        package.dependencies.iter().filter(|dependency| self.package(&dependency.name).is_some())
    }
}

impl Package {
    pub(crate) fn is_published(&self) -> bool {
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }
}

impl Dependency {
    pub(crate) fn is_dev(&self) -> bool {
        self.kind == Some(SpecialKind::Dev)
    }

    /// Whether a published manifest contains it: cargo leaves out dev-dependencies by path alone.
    pub(crate) fn is_published(&self) -> bool {
        !self.is_dev() || self.req != "*"
    }
}

/// A relative path with forward slashes on every system.
pub(crate) fn slashes(path: &Path) -> String {
    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_read() {
        let workspace = Workspace::load().unwrap();
        let core = workspace.package("opt-core").unwrap();
        assert_eq!(workspace.folder(core), "crates/opt-core");
        assert_eq!(workspace.manifest(core), "crates/opt-core/Cargo.toml");
        assert!(core.is_published());

        let xtask = workspace.package("xtask").unwrap();
        assert!(!xtask.is_published());
        assert!(workspace.edges(xtask).any(|edge| edge.name == "optimizers" && edge.is_published()));
        assert!(workspace.edges(xtask).all(|edge| edge.name != "clap"));
        let tempfile = xtask.dependencies.iter().find(|dependency| dependency.name == "tempfile").unwrap();
        assert!(tempfile.is_dev());
    }
}
