//! The mutants that may survive: a file with one a line, and the reason beside it.

use anyhow::{Context, bail};

/// The listed mutants, without their places, so that a line that moves stays listed.
#[derive(Debug)]
pub(super) struct Survivors(Vec<String>);

impl Survivors {
    /// Reads the list: `file.rs: mutation  # reason` on each line, besides comments and empty lines. A name that
    /// survives in two places is listed twice.
    ///
    /// # Errors
    ///
    /// If a line has no reason.
    pub(super) fn listed(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(name).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Prints survivors that are not listed, and fails if there are any.
    pub(super) fn compare(mut self, found: &[String]) -> anyhow::Result<()> {
        let mut unlisted = 0;
        for name in found {
            let listed = self.0.iter().position(|listed| *listed == without_place(name));
            if let Some(place) = listed {
                self.0.swap_remove(place);
            } else {
                println!("survived: {name}");
                unlisted += 1;
            }
        }
        if unlisted > 0 {
            bail!("{unlisted} mutants survived: add tests, or list them in {} with a reason", super::LIST);
        }
        Ok(())
    }
}

/// The name of a mutant on a line of the list.
fn name(line: &str) -> anyhow::Result<String> {
    let (name, reason) = line.split_once("  # ").with_context(|| format!("no reason in {line:?}"))?;
    if reason.trim().is_empty() {
        bail!("an empty reason in {line:?}");
    }
    Ok(without_place(name.trim_end()))
}

/// `file.rs:1:2: what` as `file.rs: what`.
fn without_place(name: &str) -> String {
    match name.split_once(": ") {
        Some((place, what)) => format!("{}: {what}", place.split(':').next().unwrap_or(place)),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# Text\n\ncrates/a.rs: replace + with -  # why\ncrates/a.rs:3:4: replace > with >=  # why\n";

    #[test]
    fn listed_names_survive_as_often_as_they_are_listed() {
        let compare = |found: &[&str]| {
            let found: Vec<_> = found.iter().map(|&name| name.to_owned()).collect();
            Survivors::listed(LIST).unwrap().compare(&found)
        };
        compare(&[]).unwrap();
        compare(&["crates/a.rs:1:2: replace + with -", "crates/a.rs:9:9: replace > with >="]).unwrap();
        let twice = ["crates/a.rs:1:2: replace + with -", "crates/a.rs:7:2: replace + with -"];
        assert!(compare(&twice).unwrap_err().to_string().starts_with("1 mutants survived"));
        assert!(compare(&["crates/b.rs:1:2: name"]).is_err());
        assert!(compare(&["crates/a.rs:1:2: replace + with *"]).is_err());
    }

    #[test]
    fn every_survivor_needs_a_reason() {
        for line in ["crates/a.rs: replace + with -", "crates/a.rs: replace + with -  # "] {
            let message = Survivors::listed(line).unwrap_err().to_string();
            assert!(message.contains(" reason in \"crates/a.rs"), "{message}");
        }
    }

    #[test]
    fn the_files_of_listed_survivors_exist() {
        let workspace = crate::workspace::Workspace::load().unwrap();
        let text = std::fs::read_to_string(workspace.root.join(super::super::LIST)).unwrap();
        let Survivors(names) = Survivors::listed(&text).unwrap();
        let files = names.iter().filter_map(|name| name.split(':').next());
        let missing: Vec<_> = files.filter(|file| !workspace.root.join(file).is_file()).collect();
        assert!(!names.is_empty() && missing.is_empty(), "{missing:?}");
    }
}
