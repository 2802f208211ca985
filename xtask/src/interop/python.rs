//! Python interpreters, and the systems that they have.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// A system on the other side, as `interop/round_trip.py` calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Keras2,
    Addons,
    Keras3,
    Pytorch,
}

impl Side {
    pub(super) const ALL: [Self; 4] = [Self::Keras2, Self::Addons, Self::Keras3, Self::Pytorch];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Keras2 => "keras2",
            Self::Addons => "addons",
            Self::Keras3 => "keras3",
            Self::Pytorch => "pytorch",
        }
    }

    /// What must be installed.
    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Keras2 => "Keras 2",
            Self::Addons => "TensorFlow Addons",
            Self::Keras3 => "Keras 3",
            Self::Pytorch => "PyTorch",
        }
    }
}

/// An interpreter.
#[derive(Debug)]
pub(super) struct Python {
    path: PathBuf,
    script: PathBuf,
    /// The systems that it has, with the versions of their packages.
    systems: BTreeMap<String, BTreeMap<String, String>>,
}

impl Python {
    /// Asks an interpreter, or that of a virtual environment, what it has.
    pub(super) fn open(path: &Path, root: &Path) -> anyhow::Result<Self> {
        let path = interpreter(path);
        let mut python =
            Self { path, script: root.join("interop").join("round_trip.py"), systems: BTreeMap::default() };
        let output = python.command(&python.script).arg("describe").stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("cannot start {}", python.path.display()))?;
        if !output.status.success() {
            bail!("{} cannot say what it has", python.path.display());
        }
        python.systems = serde_json::from_slice(&output.stdout)?;
        Ok(python)
    }

    pub(super) fn has(&self, side: Side) -> bool {
        self.systems.contains_key(side.name())
    }

    /// The versions of a system's packages.
    pub(super) fn label(&self, side: Side) -> String {
        let packages = self.systems.get(side.name()).into_iter().flatten();
        packages.map(|(package, version)| format!("{package} {version}")).collect::<Vec<_>>().join(", ")
    }

    /// Runs one half of the round trips of a system.
    pub(super) fn trips(&self, task: &str, side: Side, folder: &Path) -> anyhow::Result<()> {
        self.call(&self.script, &[task.as_ref(), side.name().as_ref(), folder.as_os_str()])
    }

    /// Runs a script; says what it printed if it fails.
    pub(super) fn call(&self, script: &Path, arguments: &[impl AsRef<OsStr>]) -> anyhow::Result<()> {
        let output = self.command(script).args(arguments).output();
        let output = output.with_context(|| format!("cannot start {}", self.path.display()))?;
        if !output.status.success() {
            let name = script.file_name().unwrap_or_default().to_string_lossy();
            bail!("{name}: {}", last_line(&String::from_utf8_lossy(&output.stderr)));
        }
        Ok(())
    }

    fn command(&self, script: &Path) -> Command {
        let mut command = Command::new(&self.path);
        command.arg(script);
        command
    }
}

/// The interpreter of a virtual environment.
fn interpreter(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    let places = ["bin/python", "Scripts/python.exe"].map(|place| path.join(place));
    places.iter().find(|place| place.exists()).unwrap_or(&places[0]).clone()
}

/// A traceback ends with the error.
fn last_line(text: &str) -> &str {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed without a word")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_environment_has_an_interpreter() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(interpreter(folder.path()), folder.path().join("bin/python"));
        std::fs::create_dir(folder.path().join("Scripts")).unwrap();
        std::fs::write(folder.path().join("Scripts/python.exe"), "").unwrap();
        assert_eq!(interpreter(folder.path()), folder.path().join("Scripts/python.exe"));
        assert_eq!(interpreter(Path::new("python3.11")), Path::new("python3.11"));
    }

    #[test]
    fn an_error_is_the_last_line() {
        assert_eq!(last_line("Traceback\n  File\nerror: no state\n\n"), "error: no state");
        assert_eq!(last_line(""), "it failed without a word");
    }

    #[test]
    fn an_interpreter_that_does_not_exist_is_named() {
        let error = Python::open(Path::new("no/such/python"), Path::new(".")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start no/such/python");
    }
}
