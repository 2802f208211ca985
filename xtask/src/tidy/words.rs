//! Words that must not be in code, comments or documents.

use std::sync::LazyLock;

use regex::Regex;

use super::Violation;
use super::lines::comment;
use super::repository::{File, Repository};

/// Forbidden words, and the reasons; each is in two pieces, so that this file does not contain it.
const FORBIDDEN: [([&str; 2], &str); 6] = [
    (["#[", "ignore"], "a test runs or does not exist"),
    (["#[", "should_panic"], "check the error instead"),
    (["todo", "!("], "finish it"),
    (["unimplemented", "!("], "finish it"),
    (["dbg", "!("], "take it out"),
    (["mul_", "add("], "results must not depend on the instruction set"),
];

/// Terms that were coined here, and the field's terms for the same; each is in two pieces, as above.
const COINED: [([&str; 2], &str); 9] = [
    (["to the ", "bit"], "bit for bit"),
    (["state in ", "parts"], "sharded state"),
    (["state is in ", "parts"], "sharded state"),
    (["slots are in ", "parts"], "sharded slots"),
    (["no test ", "notices"], "surviving mutants"),
    (["came to ", "light"], "was found"),
    (["what it ", "came to"], "the result"),
    (["who has ", "what"], "each rank's value"),
    (["made to ", "do harm"], "hostile"),
];

/// Documents and comments use the field's terms.
pub(crate) fn terms_are_the_fields(repository: &Repository) -> Vec<Violation> {
    let documents = repository.with_extension("md").map(|file| coined_in(file, |line| Some(line)));
    let code = repository.with_extension("rs").map(|file| coined_in(file, comment));
    documents.chain(code).flatten().collect()
}

/// The coined terms of a file, in the part of each line that `prose` returns.
fn coined_in(file: &File, prose: fn(&str) -> Option<&str>) -> Vec<Violation> {
    let words = COINED.map(|(pieces, better)| (pieces.concat(), better));
    let lines = file.lines().filter_map(|(number, line)| Some((number, prose(line)?.to_lowercase())));
    let found = lines.flat_map(|(number, line)| {
        let words = words.iter().filter(move |(word, _)| line.contains(word));
        words.map(move |(word, better)| {
            Violation::new("terms", &file.path, number, format!("`{word}`: the field's term is `{better}`"))
        })
    });
    found.collect()
}

/// None of the forbidden words, in code or comments.
pub(crate) fn no_forbidden_words(repository: &Repository) -> Vec<Violation> {
    repository.with_extension("rs").flat_map(forbidden_in).collect()
}

fn forbidden_in(file: &File) -> Vec<Violation> {
    let words = FORBIDDEN.map(|(pieces, why)| (pieces.concat(), why));
    let found = file.lines().flat_map(|(number, line)| {
        let words = words.iter().filter(move |(word, _)| line.contains(word));
        words.map(move |(word, why)| Violation::new("words", &file.path, number, format!("`{word}`: {why}")))
    });
    found.collect()
}

/// Outside of `opt-core`, the only file with unsafe code: the calls of CUDA's driver, which takes addresses.
const DRIVER: &str = "crates/opt-gpu/src/cuda/driver.rs";

/// Only `opt-core` and the file that calls CUDA's driver may have unsafe code.
pub(crate) fn unsafe_in_core_alone(repository: &Repository) -> Vec<Violation> {
    static UNSAFE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\bunsafe\s*(?:[{(]|(?:fn|impl|trait|extern)\b)").expect("valid"));
    let may = |file: &File| file.path.starts_with("crates/opt-core/") || file.path == DRIVER;
    let files = repository.with_extension("rs").filter(|file| !may(file));
    let found = files.flat_map(|file| UNSAFE.find_iter(&file.text).map(move |found| (file, found.start())));
    found.map(|(file, start)| Violation::new("unsafe", &file.path, file.line_of(start), "unsafe code")).collect()
}

/// A lint is switched off only with a written reason.
pub(crate) fn allow_has_a_reason(repository: &Repository) -> Vec<Violation> {
    static ALLOW: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?s)#!?\[(?:cfg_attr\([^\]]*?)?allow\(([^\]]*)\)\]").expect("valid"));
    let attributes = |file| File::captures(file, &ALLOW).into_iter().map(move |(start, text)| (file, start, text));
    let found = repository.with_extension("rs").flat_map(attributes);
    let bare = found.filter(|(_, _, text)| !text.contains("reason ="));
    bare.map(|(file, start, _)| Violation::new("allow", &file.path, file.line_of(start), "no reason")).collect()
}

impl File {
    /// The positions where a pattern matches, and its first group there.
    fn captures<'a>(&'a self, pattern: &Regex) -> Vec<(usize, &'a str)> {
        let found = pattern.captures_iter(&self.text).filter_map(|found| Some((found.get(0)?, found.get(1)?)));
        found.map(|(whole, group)| (whole.start(), group.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Sample;

    fn rust(text: &str) -> Sample {
        Sample::new([("crates/opt-a/src/a.rs", text), ("a.md", text)])
    }

    #[test]
    fn every_forbidden_word_is_found() {
        for (pieces, _) in FORBIDDEN {
            let text = format!("//! A.\n\n{}\n", pieces.concat());
            assert_eq!(rust(&text).broken(no_forbidden_words), ["crates/opt-a/src/a.rs:3"]);
        }
        assert_eq!(rust("// Fused by the compiler, never ours: ignore it.").broken(no_forbidden_words), [""; 0]);
    }

    #[test]
    fn every_coined_word_is_found_in_prose() {
        for (pieces, better) in COINED {
            let text = format!("# A\n\nIt is {}.\n", pieces.concat());
            assert_eq!(Sample::new([("a.md", &text)]).broken(terms_are_the_fields), ["a.md:3"]);
            let code = format!("//! A.\n    /// {}\n", pieces.concat().to_uppercase());
            assert_eq!(Sample::new([("a.rs", &code)]).broken(terms_are_the_fields), ["a.rs:2"]);
            let name = format!("const A: &str = \"{}\"; // {better}\n", pieces.concat());
            assert_eq!(rust(&name.replace(&pieces.concat(), better)).broken(terms_are_the_fields), [""; 0]);
            assert_eq!(Sample::new([("a.rs", &name)]).broken(terms_are_the_fields), [""; 0]);
        }
    }

    #[test]
    fn unsafe_code_is_found_outside_of_the_core() {
        for code in ["{ a() }", "fn a() {}", "impl A for B {}", "(no_mangle)"] {
            let text = format!("//! A.\n#[unsafe_word]\n{} {code}\n", "unsafe");
            assert_eq!(rust(&text).broken(unsafe_in_core_alone), ["crates/opt-a/src/a.rs:3"]);
            for path in ["crates/opt-core/src/a.rs", DRIVER] {
                assert_eq!(Sample::new([(path, &text)]).broken(unsafe_in_core_alone), [""; 0]);
            }
            let beside = "crates/opt-gpu/src/cuda/kept.rs";
            assert_eq!(Sample::new([(beside, &text)]).broken(unsafe_in_core_alone), [format!("{beside}:3")]);
        }
        assert_eq!(rust("//! No unsafe code.\nunsafe_code!{}").broken(unsafe_in_core_alone), [""; 0]);
    }

    #[test]
    fn a_lint_needs_a_reason_to_be_off() {
        let allow = |inner: &str| format!("//! A.\n#[{}({inner})]\nfn a() {{}}\n", "allow");
        assert_eq!(rust(&allow("dead_code")).broken(allow_has_a_reason), ["crates/opt-a/src/a.rs:2"]);
        assert_eq!(rust(&allow("\n    a,\n    b,\n")).broken(allow_has_a_reason), ["crates/opt-a/src/a.rs:2"]);
        assert_eq!(rust(&allow("a, reason = \"b\"")).broken(allow_has_a_reason), [""; 0]);
        let inner = format!("#![{}(a)]", "allow");
        assert_eq!(rust(&inner).broken(allow_has_a_reason).len(), 1);
        let conditional = format!("#[cfg_attr(test, {}(a))]", "allow");
        assert_eq!(rust(&conditional).broken(allow_has_a_reason).len(), 1);
    }
}
