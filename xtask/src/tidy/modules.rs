//! Files are in their usual places, and begin with their documentation.

use super::Violation;
use super::dependencies::RULE_CRATES;
use super::repository::{File, Repository};

/// Every module starts with its documentation.
pub(crate) fn start_with_documentation(repository: &Repository) -> Vec<Violation> {
    let modules = repository.with_extension("rs").filter(|file| is_module(&file.path));
    let silent = modules.filter(|file| !is_documented(file));
    silent.map(|file| Violation::new("module-docs", &file.path, 1, "does not start with `//!`")).collect()
}

fn is_module(path: &str) -> bool {
    let in_crate = path.strip_prefix("crates/").and_then(|path| path.split_once('/'));
    let in_sources = in_crate.is_some_and(|(_, path)| path.starts_with("src/"));
    in_sources || ["xtask/src/", "tests/", "benches/", "fuzz/"].iter().any(|folder| path.starts_with(folder))
}

/// Whether documentation is the first thing after a shebang and attributes of one line.
fn is_documented(file: &File) -> bool {
    let is_include = |line: &str| file.name() == "lib.rs" && line.starts_with("#![doc = include_str!(");
    let mut lines = file.text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.find(|line| is_include(line) || !line.starts_with("#!"));
    first.is_some_and(|line| line.starts_with("//!") || is_include(line))
}

/// A module `foo` is `foo.rs`, with its parts in `foo/`.
pub(crate) fn no_mod_rs(repository: &Repository) -> Vec<Violation> {
    let files = repository.files.iter().filter(|file| file.name() == "mod.rs");
    files.map(|file| Violation::new("no-mod-rs", &file.path, 0, "name it after its folder, beside it")).collect()
}

/// The crates of rules have the same files.
pub(crate) fn rule_crates_are_alike(repository: &Repository) -> Vec<Violation> {
    let crates = RULE_CRATES.into_iter().filter_map(|name| repository.workspace.package(name));
    let paths = crates.flat_map(|package| {
        let folder = repository.workspace.folder(package);
        // Where there are more tests, all of them are one program.
        let suite = format!("{folder}/tests/suite/conformance.rs");
        let laws = if repository.file(&suite).is_some() { suite } else { format!("{folder}/tests/conformance.rs") };
        let sources = ["lib", "config", "rule"].map(|name| format!("{folder}/src/{name}.rs"));
        sources.into_iter().chain([laws])
    });
    let missing = paths.filter(|path| repository.file(path).is_none());
    missing.map(|path| Violation::new("rule-crates", &path, 0, "is missing")).collect()
}

/// A library whose manifest says that it has no unit tests has none: they would never run.
pub(crate) fn unit_tests_run(repository: &Repository) -> Vec<Violation> {
    let packages = repository.workspace.packages.iter();
    let untested = packages.filter(|package| {
        let manifest = repository.manifest(package).map_or("", |file| &file.text);
        let library = manifest.split("\n[").find(|section| section.starts_with("lib]"));
        library.is_some_and(|section| section.lines().any(|line| line == "test = false"))
    });
    let sources = untested.flat_map(|package| {
        let folder = format!("{}/src/", repository.workspace.folder(package));
        repository.with_extension("rs").filter(move |file| file.path.starts_with(&folder))
    });
    // What a macro writes into other crates is indented.
    let is_test = |line: &str| line.starts_with("#[cfg(test)]") || line.starts_with("#[test]");
    let lost = sources.filter(|file| file.text.lines().any(is_test));
    let text = "its tests never run: the manifest says `test = false`";
    lost.map(|file| Violation::new("unit-tests", &file.path, 0, text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Sample, package};

    #[test]
    fn modules_with_documentation_pass() {
        let sample = Sample::new([
            ("crates/a/src/lib.rs", "#![doc = include_str!(\"../README.md\")]\n\nmod b;\n"),
            ("crates/a/src/b.rs", "//! What b is.\n"),
            ("tests/run.rs", "#!/usr/bin/env run\n#![cfg(test)]\n\n//! What it tests.\n"),
            ("crates/a/examples/b.rs", "fn main() {}\n"),
        ]);
        assert_eq!(sample.broken(start_with_documentation), [""; 0]);
    }

    #[test]
    fn modules_without_documentation_do_not() {
        for path in
            ["crates/a/src/lib.rs", "crates/a/src/b/c.rs", "xtask/src/a.rs", "tests/a.rs", "benches/a.rs", "fuzz/a.rs"]
        {
            for text in ["", "use a;\n//! Late.\n", "#![cfg(test)]\nuse a;\n", "/// Not this.\nmod a;\n"] {
                assert_eq!(Sample::new([(path, text)]).broken(start_with_documentation), [format!("{path}:1")]);
            }
        }
        let include = "#![doc = include_str!(\"a.md\")]\nmod b;\n";
        assert_eq!(Sample::new([("crates/a/src/b.rs", include)]).broken(start_with_documentation).len(), 1);
    }

    #[test]
    fn mod_rs_is_found() {
        let sample = Sample::new([("crates/a/src/b/mod.rs", ""), ("crates/a/src/b.rs", ""), ("src/amod.rs", "")]);
        assert_eq!(sample.broken(no_mod_rs), ["crates/a/src/b/mod.rs:0"]);
    }

    #[test]
    fn rule_crates_have_four_files() {
        let files = ["src/lib.rs", "src/config.rs", "src/rule.rs", "tests/conformance.rs"];
        let paths = files.map(|file| format!("crates/opt-sgd/{file}"));
        let sample = |paths: [&str; 4]| Sample::new(paths.map(|path| (path, ""))).packages([package("opt-sgd", [])]);
        let [lib, config, rule, conformance] = paths.each_ref().map(String::as_str);
        assert_eq!(sample([lib, config, rule, conformance]).broken(rule_crates_are_alike), [""; 0]);
        let without = sample([lib, config, rule, "crates/opt-sgd/tests/laws.rs"]);
        assert_eq!(without.broken(rule_crates_are_alike), ["crates/opt-sgd/tests/conformance.rs:0"]);
        let suite = sample([lib, config, rule, "crates/opt-sgd/tests/suite/conformance.rs"]);
        assert_eq!(suite.broken(rule_crates_are_alike), [""; 0]);
    }

    #[test]
    fn unit_tests_that_never_run_are_found() {
        let sample = |manifest: &str, code: &str| {
            let files = [("crates/opt-a/Cargo.toml", manifest), ("crates/opt-a/src/b.rs", code)];
            Sample::new(files).packages([package("opt-a", [])])
        };
        let untested = "[package]\nname = \"a\"\n\n[lib]\ntest = false\n\n[dependencies]\n";
        let code = "//! B.\n\n#[cfg(test)]\nmod tests {}\n";
        assert_eq!(sample(untested, code).broken(unit_tests_run), ["crates/opt-a/src/b.rs:0"]);
        assert_eq!(sample(untested, "//! B.\n").broken(unit_tests_run), [""; 0]);
        let of_others = "//! B.\n\nmacro_rules! law {\n    () => {\n        #[test]\n    };\n}\n";
        assert_eq!(sample(untested, of_others).broken(unit_tests_run), [""; 0]);
        let other = "[package]\nname = \"a\"\n\n[[bin]]\ntest = false\n";
        assert_eq!(sample(other, code).broken(unit_tests_run), [""; 0]);
    }
}
