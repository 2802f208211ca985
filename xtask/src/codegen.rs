//! `cargo xtask codegen`: text generated from the code. One function writes it or compares it.

mod classes;
mod diff;
mod features;
mod markers;
mod readmes;
mod rustdoc;
mod schema;
mod tables;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, bail};
use classes::Classes;

use crate::workspace::Workspace;

/// A file with generated text.
#[derive(Debug)]
struct Generated {
    /// Below the root.
    path: String,
    /// The text that it should have.
    text: anyhow::Result<String>,
}

/// Writes everything that is generated, or compares it with the existing files.
pub(crate) fn run(workspace: &Workspace, check: bool) -> anyhow::Result<()> {
    let classes = Classes::registered(workspace)?;
    let problems = rustdoc::problems(workspace, &classes);
    problems.iter().for_each(|problem| println!("{problem}"));
    let files = plan(workspace, &classes);
    let total = files.len();
    let failed = settle_all(&workspace.root, files, check);
    match (failed, check) {
        (0, _) => println!("codegen: {total} files up to date"),
        (_, true) => bail!("codegen: {failed} of {total} files are not up to date; run `cargo xtask codegen`"),
        (_, false) => bail!("codegen: {failed} of {total} files could not be written"),
    }
    if !problems.is_empty() {
        bail!("codegen: {} tables in the documentation of classes are not what the classes declare", problems.len());
    }
    Ok(())
}

fn plan(workspace: &Workspace, classes: &Classes) -> Vec<Generated> {
    let mut files = readmes::plan(workspace, classes);
    files.push(Generated { path: schema::PATH.to_owned(), text: schema::text(workspace, classes) });
    files
}

/// Updates each file, reports errors, and counts them.
fn settle_all(root: &Path, files: Vec<Generated>, check: bool) -> usize {
    let problems = files.into_iter().filter_map(|file| {
        let path = file.path.clone();
        file.settle(root, check).err().map(|error| format!("{path}: {error:#}"))
    });
    problems.inspect(|problem| println!("{problem}")).count()
}

impl Generated {
    /// Updates the file, or fails with the difference if nothing may change.
    fn settle(self, root: &Path, check: bool) -> anyhow::Result<()> {
        let expected = self.text?;
        let path = root.join(&self.path);
        let found = read(&path)?;
        match found {
            Some(found) if found == expected => Ok(()),
            Some(found) if check => bail!("differs\n{}", diff::short(&found, &expected)),
            None if check => bail!("is missing"),
            _ => write(&path, &expected),
        }
    }
}

/// The text of a file, if there is one.
fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("cannot be read"),
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).context("the folder cannot be made")?;
    }
    fs::write(path, text).context("cannot be written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Sample, package};

    const FRAME: &str = "# A\n\n<!-- generated: crates, by cargo xtask codegen -->\n<!-- end generated -->\n\n\
                         <!-- generated: features, by cargo xtask codegen -->\n<!-- end generated -->\n";
    const MANIFEST: &str = "[features]\ndefault = [\"a\"]\n## What a is.\na = []\n";

    fn sample() -> Sample {
        let files =
            [("README.md", FRAME), ("crates/optimizers/README.md", FRAME), ("crates/optimizers/Cargo.toml", MANIFEST)];
        let packages = [package("opt-schedules", []), package("opt-sgd", []), package("optimizers", [])];
        Sample::new(files).packages(packages)
    }

    fn failures(workspace: &Workspace, check: bool) -> usize {
        settle_all(&workspace.root, plan(workspace, &Classes::sample()), check)
    }

    #[test]
    fn what_is_written_is_up_to_date() {
        let sample = sample();
        let workspace = sample.workspace();
        assert_eq!(failures(&workspace, true), 5, "two differ, three are missing");
        assert_eq!(failures(&workspace, false), 0);
        assert_eq!(failures(&workspace, true), 0);
    }

    #[test]
    fn every_generated_file_is_compared() {
        let sample = sample();
        let workspace = sample.workspace();
        failures(&workspace, false);
        for file in plan(&workspace, &Classes::sample()) {
            let path = workspace.root.join(&file.path);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.to_lowercase().contains("generated"), "{text}");
            fs::write(&path, text.replacen("learning_rate", "rate", 1).replacen("What", "what", 1)).unwrap();
            assert_eq!(failures(&workspace, true), 1, "{}", file.path);
            fs::write(&path, text).unwrap();
        }
    }

    #[test]
    fn documents_without_markers_are_left_alone() {
        let sample = sample();
        let workspace = sample.workspace();
        let readme = workspace.root.join("README.md");
        fs::write(&readme, "# A\n").unwrap();
        assert_eq!(failures(&workspace, false), 1);
        assert_eq!(fs::read_to_string(&readme).unwrap(), "# A\n");
        fs::remove_file(&readme).unwrap();
        assert_eq!(failures(&workspace, false), 1);
        assert!(!readme.exists());
    }
}
