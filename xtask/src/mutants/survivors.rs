//! The changes that may survive: lines of docs/testing.md that name a file and what is changed in it.

use anyhow::bail;

/// What is listed, without places, so that a line that moves stays listed.
#[derive(Debug)]
pub(super) struct Survivors(Vec<String>);

impl Survivors {
    /// The lines of a text that are names of changes. A name that survives in two places stands there twice.
    pub(super) fn listed(text: &str) -> Self {
        Self(text.lines().filter(|line| line.starts_with("crates/")).map(without_place).collect())
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
            bail!("{unlisted} changes survived: add tests, or list them in {} with a reason", super::LIST);
        }
        Ok(())
    }
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

    #[test]
    fn listed_names_survive_as_often_as_they_are_listed() {
        let list = "# Text\ncrates/a.rs: replace + with -\ncrates/a.rs:3:4: replace > with >=\nno crates/b.rs: name\n";
        let compare = |found: &[&str]| {
            let found: Vec<_> = found.iter().map(|&name| name.to_owned()).collect();
            Survivors::listed(list).compare(&found)
        };
        compare(&[]).unwrap();
        compare(&["crates/a.rs:1:2: replace + with -", "crates/a.rs:9:9: replace > with >="]).unwrap();
        let twice = ["crates/a.rs:1:2: replace + with -", "crates/a.rs:7:2: replace + with -"];
        assert!(compare(&twice).unwrap_err().to_string().starts_with("1 changes survived"));
        assert!(compare(&["crates/b.rs:1:2: name"]).is_err());
        assert!(compare(&["crates/a.rs:1:2: replace + with *"]).is_err());
    }
}
