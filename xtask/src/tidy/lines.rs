//! Lines of prose and comments have a limited width.

use std::sync::LazyLock;

use regex::Regex;

use super::Violation;
use super::markdown::{self, Line};
use super::repository::{File, Repository};

/// The widest line of prose in a document.
const PROSE: usize = 130;

/// The widest line of a comment. rustfmt enforces it for code, and does not change comments.
const COMMENT: usize = 120;

/// Prose in documents is at most 130 columns wide. Tables, fenced blocks and the targets of links do not count.
pub(crate) fn prose_is_narrow(repository: &Repository) -> Vec<Violation> {
    repository.with_extension("md").flat_map(wide_prose).collect()
}

fn wide_prose(file: &File) -> Vec<Violation> {
    let lines = markdown::lines(&file.text);
    let prose = lines.iter().filter(|line| line.block.is_none() && !line.is_row());
    prose.filter_map(|line| too_wide(file, line.number, line.text, PROSE)).collect()
}

/// Comments are at most 120 columns wide. Tables and the targets of links do not count.
pub(crate) fn comments_are_narrow(repository: &Repository) -> Vec<Violation> {
    repository.with_extension("rs").flat_map(wide_comments).collect()
}

fn wide_comments(file: &File) -> Vec<Violation> {
    let comments = file.lines().filter_map(|(number, line)| Some((number, line, comment(line)?)));
    let prose = comments.filter(|(_, _, text)| !text.trim_start().starts_with('|'));
    prose.filter_map(|(number, line, _)| too_wide(file, number, line, COMMENT)).collect()
}

/// The text of a line that is only a comment.
pub(super) fn comment(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("//")?;
    Some(rest.strip_prefix(['/', '!']).unwrap_or(rest))
}

fn too_wide(file: &File, number: usize, line: &str, most: usize) -> Option<Violation> {
    let width = width(line);
    let text = || format!("{width} columns of prose, at most {most}");
    (width > most).then(|| Violation::new("line-width", &file.path, number, text()))
}

/// The width of a line without the targets of its links.
fn width(line: &str) -> usize {
    static TARGET: LazyLock<Regex> = LazyLock::new(|| {
        let target = r"\]\([^)]*\)|\]:\s+\S+|<?https?://\S+";
        Regex::new(target).expect("valid")
    });
    TARGET.replace_all(line.trim_end(), "").chars().count()
}

impl Line<'_> {
    /// Whether it is a row of a table.
    fn is_row(&self) -> bool {
        self.text.trim_start().starts_with('|')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Sample;

    fn document(line: &str) -> Vec<String> {
        Sample::new([("a.md", &format!("# A\n\n{line}\n"))]).broken(prose_is_narrow)
    }

    fn code(line: &str) -> Vec<String> {
        Sample::new([("a.rs", &format!("//! A.\n{line}\n"))]).broken(comments_are_narrow)
    }

    #[test]
    fn wide_prose_is_found() {
        assert_eq!(document(&"\u{e4}".repeat(PROSE)), [""; 0]);
        assert_eq!(document(&"a".repeat(PROSE + 1)), ["a.md:3"]);
        assert_eq!(document(&format!("* {}", "a ".repeat(PROSE))), ["a.md:3"]);
    }

    #[test]
    fn tables_blocks_and_targets_may_be_wide() {
        let wide = "a".repeat(PROSE);
        for line in [
            format!("| {wide} |"),
            format!("```text\n{wide}b\n```"),
            format!("[a]({wide})"),
            format!("[a]: {wide}"),
            format!("See https://example.org/{wide}"),
        ] {
            assert_eq!(document(&line), [""; 0], "{line}");
        }
        assert_eq!(document(&format!("[{wide}](b)")), ["a.md:3"]);
    }

    #[test]
    fn wide_comments_are_found() {
        for mark in ["///", "    //!", "//"] {
            let fits = format!("{mark} {}", "a".repeat(COMMENT - mark.len() - 1));
            assert_eq!(code(&fits), [""; 0]);
            assert_eq!(code(&format!("{fits}a")), ["a.rs:2"]);
        }
        assert_eq!(code(&format!("/// | {} |", "a".repeat(COMMENT))), [""; 0]);
        assert_eq!(code(&format!("const A: &str = \"{}\";", "a".repeat(COMMENT))), [""; 0]);
    }
}
