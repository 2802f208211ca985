//! The tables of hyperparameters in the documentation of the classes, written by hand: their defaults and ranges are
//! compared with the declarations.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use opt_core::config::HyperparameterSpec;

use super::classes::{Class, Classes};
use super::tables;
use crate::workspace::Workspace;

/// What is wrong with the tables, class by class.
pub(super) fn problems(workspace: &Workspace, classes: &Classes) -> Vec<String> {
    let problem = |class: &Class| check(workspace, class).err().map(|error| format!("{}: {error:#}", class.name));
    classes.all().filter_map(problem).collect()
}

fn check(workspace: &Workspace, class: &Class) -> anyhow::Result<()> {
    let package = workspace.packages.iter().find(|package| package.name == class.package);
    let package = package.with_context(|| format!("no package {}", class.package))?;
    let folder = package.manifest_path.parent().unwrap_or(Path::new("")).join("src");
    let sources = sources(&folder)?;
    let table = sources.iter().find_map(|source| documentation(source, &class.name)).unwrap_or_default();
    compare(&table, &class.specs)
}

/// The texts of all Rust files in a folder.
fn sources(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut folders = vec![folder.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    Ok(files.iter().map(fs::read_to_string).collect::<Result<_, _>>()?)
}

/// The documentation of a class: the lines above its name, as a struct or as the argument of a macro. The class `SGD`
/// is the struct `Sgd`.
fn documentation(source: &str, class: &str) -> Option<Vec<String>> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_class = |name: &str| name.eq_ignore_ascii_case(class);
    let names = |line: &str| {
        let name = line.strip_prefix("pub struct ").and_then(|rest| rest.split(['<', ' ']).next());
        name.or_else(|| line.strip_suffix(',')).is_some_and(is_class)
    };
    let documented = |index: &usize| names(lines[*index]) && lines[index.saturating_sub(1)].starts_with(['/', '#']);
    let end = (0..lines.len()).find(documented)?;
    let is_above = |line: &&&str| line.starts_with("///") || line.starts_with("#[");
    let count = lines[..end].iter().rev().take_while(is_above).count();
    let text = |line: &&str| line.trim_start_matches("///").trim().to_owned();
    Some(lines[end - count..end].iter().map(text).collect())
}

/// Compares the rows that name a hyperparameter: the default, and the range where the table has that column.
fn compare(documentation: &[String], specs: &[HyperparameterSpec]) -> anyhow::Result<()> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let is_table = |line: &&String| line.starts_with("| symbol ") && line.contains("| default |");
    let start =
        documentation.iter().position(|line| is_table(&line)).context("has no table `| symbol | field | default |`")?;
    let header = cells(&documentation[start]);
    let column = |name: &str| header.iter().position(|cell| cell == name);
    let [field, default] = ["field", "default"].map(|name| column(name).unwrap_or(usize::MAX));
    let mut known = 0;
    for line in documentation[start + 2..].iter().take_while(|line| line.starts_with('|')) {
        let row = cells(line);
        let named =
            |spec: &&HyperparameterSpec| row.get(field).is_some_and(|cell| cell.contains(&format!("`{}`", spec.name)));
        let Some(spec) = specs.iter().find(named) else { continue };
        known += 1;
        let found = row.get(default).map_or("", String::as_str);
        if !says_default(found, spec) {
            bail!("the documentation says {found:?} for the default of {}, which is {}", spec.name, word(spec));
        }
        let range = tables::range(&spec.kind);
        let found = column("range").and_then(|range| row.get(range)).unwrap_or(&range);
        if !found.contains(&range) {
            bail!("the documentation says {found:?} for the range of {}, which is {range:?}", spec.name);
        }
    }
    if known == 0 {
        bail!("has a table without hyperparameters");
    }
    Ok(())
}

/// Whether one word of a cell is the default; a number by value.
fn says_default(cell: &str, spec: &HyperparameterSpec) -> bool {
    let mut words = cell.split([' ', ',', ';', ':', '`']).filter(|word| !word.is_empty());
    let default = word(spec);
    words.any(|word| word == default || word.parse::<f64>().is_ok_and(|number| default.parse() == Ok(number)))
}

/// The default in a word.
fn word(spec: &HyperparameterSpec) -> String {
    match &spec.default {
        None => "required".to_owned(),
        Some(default) if default.is_null() => "none".to_owned(),
        Some(default) => default.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "hyperparameters! {\n    /// A.\n    ///\n    /// | symbol | field | default | range |\n    \
                          /// |---|---|---|---|\n    /// | m | [`momentum`](Self::momentum) | 0; off | `[0, 1)` |\n    \
                          /// | | `nesterov` | false | |\n    #[derive(Debug)]\n    pub struct A {\n    }\n}\n";

    fn specs(momentum: f64, nesterov: bool, high: f64) -> Vec<HyperparameterSpec> {
        vec![
            HyperparameterSpec::optional::<f64>("momentum", momentum, (0.0..high).into(), ""),
            HyperparameterSpec::optional::<bool>("nesterov", nesterov, (), ""),
        ]
    }

    fn message(specs: &[HyperparameterSpec]) -> Option<String> {
        compare(&documentation(SOURCE, "A").unwrap(), specs).err().map(|error| error.to_string())
    }

    #[test]
    fn a_table_that_agrees_is_fine() {
        assert_eq!(message(&specs(0.0, false, 1.0)), None);
    }

    #[test]
    fn what_differs_is_named() {
        for (specs, expected) in [
            (specs(0.5, false, 1.0), "the documentation says \"0; off\" for the default of momentum, which is 0.5"),
            (specs(0.0, true, 1.0), "the documentation says \"false\" for the default of nesterov, which is true"),
            (
                specs(0.0, false, 2.0),
                "the documentation says \"`[0, 1)`\" for the range of momentum, which is \"`[0, 2)`\"",
            ),
        ] {
            assert_eq!(message(&specs).as_deref(), Some(expected));
        }
        assert_eq!(message(&[]).as_deref(), Some("has a table without hyperparameters"));
        assert!(documentation(SOURCE, "B").is_none() && compare(&[], &[]).is_err());
    }

    #[test]
    fn arguments_of_macros_are_documented_too() {
        let source = "decay! {\n    /// | symbol | field | default |\n    B,\n    \"B\"\n}\n";
        assert_eq!(documentation(source, "B").unwrap(), ["| symbol | field | default |"]);
    }

    #[test]
    fn the_tables_of_all_classes_agree() {
        let workspace = Workspace::load().unwrap();
        let classes = Classes::registered(&workspace).unwrap();
        assert_eq!(problems(&workspace, &classes), [""; 0]);
    }
}
