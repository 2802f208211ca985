//! `cargo xtask tidy`: the laws of the repository. Each is a function that finds the violations.

mod architecture;
mod circles;
mod dependencies;
mod documents;
mod lines;
mod machine;
mod markdown;
mod modules;
mod packages;
mod repository;
#[cfg(test)]
mod samples;
mod words;

use std::fmt;

use anyhow::bail;
use repository::Repository;

use crate::workspace::Workspace;

/// A law, as the function that finds its violations.
type Law = fn(&Repository) -> Vec<Violation>;

const LAWS: &[Law] = &[
    architecture::packages_are_named,
    architecture::names_exist,
    circles::there_are_none,
    dependencies::point_one_way,
    dependencies::tests_make_no_cycle,
    documents::are_there,
    documents::links_lead_somewhere,
    documents::set_up_is_two_commands,
    lines::prose_is_narrow,
    lines::comments_are_narrow,
    machine::no_paths,
    machine::no_mirrors,
    machine::locked_to_the_registry,
    modules::start_with_documentation,
    modules::no_mod_rs,
    modules::rule_crates_are_alike,
    modules::unit_tests_run,
    packages::share_their_data,
    packages::have_a_readme,
    words::no_forbidden_words,
    words::terms_are_the_fields,
    words::unsafe_in_core_alone,
    words::allow_has_a_reason,
];

/// One violation of a law.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    law: &'static str,
    path: String,
    /// Counted from 1; 0 for the file as a whole.
    line: usize,
    text: String,
}

impl Violation {
    fn new(law: &'static str, path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { law, path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {} [{}]", self.path, self.text, self.law),
            line => write!(f, "{}:{line}: {} [{}]", self.path, self.text, self.law),
        }
    }
}

/// Checks every law and prints every violation; fails if there is one.
pub(crate) fn run(workspace: Workspace) -> anyhow::Result<()> {
    let repository = Repository::open(workspace)?;
    let mut violations: Vec<_> = LAWS.iter().flat_map(|law| law(&repository)).collect();
    violations.sort();
    for violation in &violations {
        println!("{violation}");
    }
    let summary = format!("tidy: {} laws, {} files", LAWS.len(), repository.files.len());
    if !violations.is_empty() {
        bail!("{summary}, {} violations", violations.len());
    }
    println!("{summary}, no violations");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_is_one_line() {
        let violation = Violation::new("law", "a/b.rs", 3, "broken");
        assert_eq!(violation.to_string(), "a/b.rs:3: broken [law]");
        assert_eq!(Violation { line: 0, ..violation }.to_string(), "a/b.rs: broken [law]");
    }
}
