//! Small repositories in temporary folders, for tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::workspace::{Dependency, Package, SpecialKind, Workspace};

/// A repository in a temporary folder.
pub(crate) struct Sample {
    folder: TempDir,
    paths: Vec<String>,
    packages: Vec<Package>,
}

impl Sample {
    /// Writes files.
    pub(crate) fn new<const N: usize>(files: [(&str, &str); N]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let paths = files.map(|(path, _)| path.to_owned()).to_vec();
        Self { folder, paths, packages: Vec::new() }
    }

    /// Adds packages to cargo's metadata.
    pub(crate) fn packages<const N: usize>(mut self, packages: [Package; N]) -> Self {
        self.packages = packages.into();
        self
    }

    pub(crate) fn workspace(&self) -> Workspace {
        let root = self.folder.path().to_owned();
        let mut packages = self.packages.clone();
        for package in &mut packages {
            package.manifest_path = root.join(&package.manifest_path);
        }
        Workspace { target_directory: root.join("target"), root, packages }
    }

    /// The paths of the files.
    pub(crate) fn paths(&self) -> &[String] {
        &self.paths
    }
}

/// A workspace without files.
pub(crate) fn workspace<const N: usize>(packages: [Package; N]) -> Workspace {
    Workspace { root: PathBuf::new(), target_directory: PathBuf::new(), packages: packages.into() }
}

/// A package in `crates/NAME`, or in `NAME` if it is one of the packages beside it.
pub(crate) fn package<const N: usize>(name: &str, dependencies: [Dependency; N]) -> Package {
    let beside = ["tests", "benches", "xtask"].contains(&name);
    let folder = if beside { PathBuf::from(name) } else { PathBuf::from("crates").join(name) };
    Package {
        name: name.to_owned(),
        version: "0.1.0".to_owned(),
        description: Some(format!("What {name} is for.")),
        repository: Some("https://example.org/repository".to_owned()),
        publish: beside.then(Vec::new),
        manifest_path: folder.join("Cargo.toml"),
        features: BTreeMap::new(),
        dependencies: dependencies.into(),
    }
}

pub(crate) fn normal(name: &str) -> Dependency {
    Dependency { name: name.to_owned(), req: "^0.1.0".to_owned(), kind: None }
}

/// A dependency of tests, with a version.
pub(crate) fn dev(name: &str) -> Dependency {
    Dependency { kind: Some(SpecialKind::Dev), ..normal(name) }
}

/// A dependency of tests, by path alone.
pub(crate) fn path_dev(name: &str) -> Dependency {
    Dependency { req: "*".to_owned(), ..dev(name) }
}
