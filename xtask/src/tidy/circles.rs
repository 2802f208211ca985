//! Modules of a crate do not import each other in circles: whoever reads one can read those below it first.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::Violation;
use super::repository::{File, Repository};

/// The modules of one crate, by their paths: `["rule", "block"]`; the root is empty.
type Modules<'r> = BTreeMap<Vec<&'r str>, &'r File>;

/// No module imports one that leads back to it.
///
/// A module knows those that contain it, and gives out again what is in those inside it: these two do not count as ways
/// back. Tests may import anything.
pub(crate) fn there_are_none(repository: &Repository) -> Vec<Violation> {
    crates(repository).values().flat_map(circles).collect()
}

/// The crates, by their folders.
fn crates(repository: &Repository) -> BTreeMap<&str, Modules<'_>> {
    let mut crates: BTreeMap<&str, Modules<'_>> = BTreeMap::new();
    for file in repository.with_extension("rs") {
        let Some((folder, path)) = file.path.split_once("/src/") else { continue };
        let path = path.trim_end_matches(".rs");
        let module = if matches!(path, "lib" | "main") { Vec::new() } else { path.split('/').collect() };
        crates.entry(folder).or_default().insert(module, file);
    }
    crates
}

fn circles(modules: &Modules<'_>) -> Vec<Violation> {
    let imports: BTreeMap<_, _> =
        modules.iter().map(|(module, file)| (module, imports(modules, module, file))).collect();
    let mut violations = Vec::new();
    for (module, imported) in &imports {
        for (other, line) in imported {
            if leads_to(&imports, other, module) {
                let text = format!("imports `{}`, which leads back here", other.join("::"));
                violations.push(Violation::new("circles", &modules[*module].path, *line, text));
            }
        }
    }
    violations
}

/// Whether imports lead from one module to another.
fn leads_to<'r>(
    imports: &BTreeMap<&Vec<&'r str>, BTreeMap<Vec<&'r str>, usize>>,
    from: &Vec<&'r str>,
    to: &Vec<&'r str>,
) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            next.extend(imports.get(module).into_iter().flat_map(BTreeMap::keys));
        }
    }
    false
}

/// The other modules of the crate that a module names, with the first line that does.
fn imports<'r>(modules: &Modules<'r>, module: &[&'r str], file: &'r File) -> BTreeMap<Vec<&'r str>, usize> {
    let path = Regex::new(r"(?m)\b(?:crate|super)(?:::\w+)*(?:::\{[^;]*\})?").expect("the pattern is valid");
    let code = file.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut found = BTreeMap::new();
    for place in path.find_iter(code) {
        let line = file.line_of(place.start());
        if is_comment(file, line) {
            continue;
        }
        for path in expanded(place.as_str()) {
            let Some(named) = named(modules, module, &path) else { continue };
            if !module.starts_with(&named) && !named.starts_with(module) {
                found.entry(named).or_insert(line);
            }
        }
    }
    found
}

fn is_comment(file: &File, line: usize) -> bool {
    file.text.lines().nth(line - 1).is_some_and(|line| line.trim_start().starts_with("//"))
}

/// The paths of `a::{b, c::{d, e}}`.
fn expanded(path: &str) -> Vec<String> {
    let Some((front, rest)) = path.split_once('{') else { return vec![path.trim().to_owned()] };
    let mut paths = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, character) in rest.char_indices() {
        let ends = depth == 0 && matches!(character, ',' | '}');
        if ends {
            paths.extend(expanded(&rest[start..at]).into_iter().map(|path| format!("{}{path}", front.trim())));
            start = at + 1;
        }
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
    }
    paths
}

/// The module that a path names, or in which it names something.
fn named<'r>(modules: &Modules<'r>, module: &[&'r str], path: &str) -> Option<Vec<&'r str>> {
    let mut base = module.to_vec();
    let mut rest = path.split("::").peekable();
    if rest.next_if_eq(&"crate").is_some() {
        base.clear();
    }
    while rest.next_if_eq(&"super").is_some() {
        base.pop();
    }
    let wanted: Vec<&str> = base.into_iter().chain(rest).collect();
    let mut lengths = (0..=wanted.len()).rev();
    lengths.find_map(|length| modules.keys().find(|module| module[..] == wanted[..length])).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Sample;

    #[test]
    fn circles_are_found() {
        let sample = Sample::new([
            ("crates/a/src/lib.rs", "//! Root.\nmod b;\nmod c;\nmod d;\n"),
            ("crates/a/src/b.rs", "//! B.\nuse crate::{\n    c::{C, D},\n};\n"),
            ("crates/a/src/c.rs", "//! C.\n\nuse super::d;\n"),
            ("crates/a/src/d.rs", "//! D.\nmod e;\n"),
            ("crates/a/src/d/e.rs", "//! E.\nfn e() { crate::b::f() }\n"),
            ("crates/a/src/g.rs", "//! G.\nuse super::b::B;\n"),
        ]);
        assert_eq!(sample.broken(there_are_none), [""; 0], "`d` does not import `e`");
        let sample = Sample::new([
            ("crates/a/src/lib.rs", "//! Root.\n"),
            ("crates/a/src/b.rs", "//! B.\nuse crate::{\n    c::{C, D},\n};\n"),
            ("crates/a/src/c.rs", "//! C.\n\nuse super::d;\n"),
            ("crates/a/src/d.rs", "//! D.\nfn d() { crate::b::f() }\n"),
            ("crates/a/src/g.rs", "//! G.\nuse super::b::B;\n"),
        ]);
        let circle = ["crates/a/src/b.rs:2", "crates/a/src/c.rs:3", "crates/a/src/d.rs:2"];
        assert_eq!(sample.broken(there_are_none), circle);
    }

    #[test]
    fn what_is_no_circle_is_not() {
        let sample = Sample::new([
            ("crates/a/src/lib.rs", "//! Root.\nuse crate::b::B;\n"),
            ("crates/a/src/b.rs", "//! B, see [`C`](crate::c::C).\n// crate::c\nuse d::D;\n"),
            ("crates/a/src/b/d.rs", "//! D.\nuse super::B;\nuse crate::c::C;\n"),
            ("crates/a/src/c.rs", "//! C.\n#[cfg(test)]\nmod tests {\n    use crate::b::d::D;\n}\n"),
            ("crates/e/src/c.rs", "//! Another crate.\nuse crate::b::d::D;\n"),
        ]);
        assert_eq!(sample.broken(there_are_none), [""; 0]);
    }
}
