//! Nothing in the repository depends on the machine it was written on.

use std::sync::LazyLock;

use regex::Regex;

use super::Violation;
use super::repository::{File, Repository};

/// No path of a home directory or workplace.
pub(crate) fn no_paths(repository: &Repository) -> Vec<Violation> {
    // The text before must not be part of an address or of a relative path.
    static PATH: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?:^|[^\w.~-])(/(?:home|root|work|Users)/)").expect("valid"));
    repository.files.iter().flat_map(|file| matches("machine-paths", &PATH, file)).collect()
}

/// No settings that fetch packages from elsewhere.
pub(crate) fn no_mirrors(repository: &Repository) -> Vec<Violation> {
    static ANYWHERE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(concat!("(index", "-url", r"|CARGO_REGISTRIES", "_)")).expect("valid"));
    static SETTING: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"^\s*((?:[\w.-]+\.)?(?:registry|registry-index|replace-with)\s*=|\[source\b|\[registries\b)"#)
            .expect("valid")
    });
    let anywhere = repository.files.iter().flat_map(|file| matches("mirrors", &ANYWHERE, file));
    anywhere.chain(repository.with_extension("toml").flat_map(|file| matches("mirrors", &SETTING, file))).collect()
}

/// Cargo.lock takes everything from the public registry.
pub(crate) fn locked_to_the_registry(repository: &Repository) -> Vec<Violation> {
    const REGISTRY: &str = r#"source = "registry+https://github.com/rust-lang/crates.io-index""#;
    let locks = repository.files.iter().filter(|file| file.name() == "Cargo.lock");
    let sources = locks.flat_map(|file| {
        let lines = file.lines().filter(|(_, line)| line.starts_with("source = ") && *line != REGISTRY);
        lines.map(|(number, line)| Violation::new("lock", &file.path, number, line))
    });
    sources.collect()
}

fn matches(law: &'static str, pattern: &Regex, file: &File) -> Vec<Violation> {
    let found = file.lines().filter_map(|(number, line)| Some((number, pattern.captures(line)?)));
    found.map(|(number, found)| Violation::new(law, &file.path, number, format!("{:?}", &found[1]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Sample;

    #[test]
    fn paths_of_a_machine_are_found() {
        for folder in ["home", "root", "work", "Users"] {
            let text = format!("a\nopen \"/{folder}/me/file\"\n");
            assert_eq!(Sample::new([("a.txt", &text)]).broken(no_paths), ["a.txt:2"]);
            let start = format!("/{folder}/me");
            assert_eq!(Sample::new([("a.md", &start)]).broken(no_paths), ["a.md:1"]);
            let other = format!("https://example.org/{folder}/x ../{folder}/x a/{folder}/b /{folder}s/x");
            assert_eq!(Sample::new([("a.md", &other)]).broken(no_paths), [""; 0]);
        }
    }

    #[test]
    fn mirrors_are_found() {
        let flag = format!("pip install --index{} https://example.org\n", "-url");
        assert_eq!(Sample::new([("a.sh", &flag)]).broken(no_mirrors), ["a.sh:1"]);
        for setting in ["[source.crates-io]", "replace-with = \"x\"", "registry = \"x\"", "a.registry = \"x\""] {
            assert_eq!(Sample::new([(".cargo/config.toml", setting)]).broken(no_mirrors).len(), 1, "{setting}");
        }
        let clean = [("a.rs", "let registry = optimizers::registry();"), ("a.toml", "registry-like = 1")];
        assert_eq!(Sample::new(clean).broken(no_mirrors), [""; 0]);
    }

    #[test]
    fn other_sources_are_found_in_the_lock() {
        let lock = "[[package]]\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
        assert_eq!(Sample::new([("Cargo.lock", lock)]).broken(locked_to_the_registry), [""; 0]);
        let other = lock.replace("rust-lang", "someone");
        assert_eq!(Sample::new([("Cargo.lock", &other)]).broken(locked_to_the_registry), ["Cargo.lock:2"]);
    }
}
