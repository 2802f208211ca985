//! The repository as the laws see it: its packages and the text of its files.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::workspace::{Package, Workspace};

/// Everything that a law may look at.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) workspace: Workspace,
    pub(crate) files: Vec<File>,
}

/// One file that belongs to the repository.
#[derive(Debug)]
pub(crate) struct File {
    /// Below the root, with forward slashes.
    pub(crate) path: String,
    /// Empty if it is no text.
    pub(crate) text: String,
}

impl Repository {
    /// Reads the files that git tracks or would add.
    pub(crate) fn open(workspace: Workspace) -> anyhow::Result<Self> {
        let paths = git_files(&workspace.root)?;
        Self::read(workspace, &paths)
    }

    /// Reads these files.
    pub(crate) fn read(workspace: Workspace, paths: &[String]) -> anyhow::Result<Self> {
        let existing = paths.iter().filter(|path| workspace.root.join(path).is_file());
        let files = existing.map(|path| File::read(&workspace.root, path)).collect::<anyhow::Result<_>>()?;
        Ok(Self { workspace, files })
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether there is such a file, or a folder with files.
    pub(crate) fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let is_inside = |file: &File| file.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        path.is_empty() || self.file(path).is_some() || self.files.iter().any(is_inside)
    }

    pub(crate) fn with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| file.extension() == extension)
    }

    /// The manifest of a package.
    pub(crate) fn manifest(&self, package: &Package) -> Option<&File> {
        self.file(&self.workspace.manifest(package))
    }
}

impl File {
    fn read(root: &Path, path: &str) -> anyhow::Result<Self> {
        let bytes = fs::read(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        Ok(Self { path: path.to_owned(), text: String::from_utf8(bytes).unwrap_or_default() })
    }

    pub(crate) fn extension(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    /// The name without folders.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The lines with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The number of the line that holds a byte.
    pub(crate) fn line_of(&self, byte: usize) -> usize {
        1 + self.text[..byte].matches('\n').count()
    }
}

/// What git tracks, and what is new and not ignored.
fn git_files(root: &Path) -> anyhow::Result<Vec<String>> {
    let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(args).current_dir(root).output().context("cannot start git")?;
    if !output.status.success() {
        bail!("git cannot list the files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let list = String::from_utf8(output.stdout).context("a path is not UTF-8")?;
    Ok(list.split_terminator('\0').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use crate::samples::Sample;

    #[test]
    fn folders_exist_if_they_hold_files() {
        let sample = Sample::new([("a/b/c.rs", "text\nmore\n")]);
        let repository = sample.repository();
        assert!(["a", "a/b/", "a/b/c.rs", ""].iter().all(|path| repository.exists(path)));
        assert!(["a/b/c", "b", "a/b/c.rs/d"].iter().all(|path| !repository.exists(path)));
    }

    #[test]
    fn files_know_their_names_and_lines() {
        let sample = Sample::new([("a/b.tar.gz", "text\nmore\n")]);
        let repository = sample.repository();
        let file = repository.file("a/b.tar.gz").unwrap();
        assert_eq!((file.name(), file.extension()), ("b.tar.gz", "gz"));
        assert_eq!([0, 4, 5].map(|byte| file.line_of(byte)), [1, 1, 2]);
    }
}
