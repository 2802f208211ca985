//! The documents exist, their links work, and README.md says how to start.

use std::sync::LazyLock;

use regex::Regex;

use super::Violation;
use super::markdown::{self, Line};
use super::repository::{File, Repository};

const DOCUMENTS: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// The documents that everyone expects at the root.
pub(crate) fn are_there(repository: &Repository) -> Vec<Violation> {
    let missing = DOCUMENTS.into_iter().filter(|path| repository.file(path).is_none());
    missing.map(|path| Violation::new("documents", path, 0, "is missing")).collect()
}

/// Relative links point to files and folders of the repository.
pub(crate) fn links_lead_somewhere(repository: &Repository) -> Vec<Violation> {
    repository.with_extension("md").flat_map(|file| dead_links(file, repository)).collect()
}

fn dead_links(file: &File, repository: &Repository) -> Vec<Violation> {
    let lines = markdown::lines(&file.text);
    let text = lines.iter().filter(|line| line.block.is_none());
    let targets = text.flat_map(|line| targets(line.text).into_iter().map(|target| (line.number, target)));
    let dead = targets.filter(|(_, target)| !resolve(&file.path, target).is_some_and(|path| repository.exists(&path)));
    dead.map(|(line, target)| Violation::new("links", &file.path, line, format!("{target:?} does not exist"))).collect()
}

/// The relative targets of a line's links: inline, as a reference, or in HTML.
fn targets(line: &str) -> Vec<String> {
    static LINK: LazyLock<Regex> = LazyLock::new(|| {
        let link = r#"\]\(<?([^)\s>]+)|^\s*\[[^\]]+\]:\s+<?([^\s>]+)|(?:src|href)="([^"]+)""#;
        Regex::new(link).expect("valid")
    });
    static CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new("`[^`]*`").expect("valid"));
    let line = CODE.replace_all(line, "code");
    let found = LINK.captures_iter(&line).filter_map(|link| link.iter().skip(1).flatten().next());
    found.map(|target| target.as_str()).filter(|target| is_relative(target)).map(str::to_owned).collect()
}

/// Whether it is not an address, an anchor in the same document, or the path of a Rust item.
fn is_relative(target: &str) -> bool {
    !target.starts_with('#') && !target.contains(':')
}

/// The path below the root to which a link leads, if it stays there.
fn resolve(document: &str, target: &str) -> Option<String> {
    let target = target.split(['#', '?']).next().unwrap_or(target);
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// README.md opens with its only title, and needs two commands to set up.
pub(crate) fn set_up_is_two_commands(repository: &Repository) -> Vec<Violation> {
    let Some(readme) = repository.file("README.md") else { return Vec::new() };
    let lines = markdown::lines(&readme.text);
    let problems = [wrong_title(&lines), wrong_commands(&lines)];
    problems.into_iter().flatten().map(|(line, text)| Violation::new("set-up", &readme.path, line, text)).collect()
}

fn wrong_title(lines: &[Line<'_>]) -> Option<(usize, String)> {
    let first = lines.iter().find(|line| !line.text.trim().is_empty())?;
    if first.heading().is_none_or(|(level, _)| level != 1) {
        return Some((first.number, "the document does not open with a title".to_owned()));
    }
    let second = lines.iter().filter(|line| line.heading().is_some_and(|(level, _)| level == 1)).nth(1)?;
    Some((second.number, "a second title".to_owned()))
}

fn wrong_commands(lines: &[Line<'_>]) -> Option<(usize, String)> {
    let is_set_up = |line: &Line<'_>| line.heading().is_some_and(|(_, text)| text == "Set up");
    let Some(start) = lines.iter().position(is_set_up) else {
        return Some((0, "there is no heading \"Set up\"".to_owned()));
    };
    let section = lines[start + 1..].iter().take_while(|line| line.heading().is_none());
    let shell: Vec<_> = section.filter(|line| line.block.is_some_and(|block| block.info == "sh")).collect();
    let is_command = |line: &&&Line<'_>| !line.text.trim().is_empty() && !line.text.trim().starts_with('#');
    let commands = shell.iter().filter(is_command).count();
    let blocks = shell.chunk_by(|a, b| a.block == b.block).count();
    let is_right = blocks == 1 && commands == 2;
    let text = || format!("expected 2 commands in 1 block marked sh, found {commands} in {blocks}");
    (!is_right).then(|| (lines[start].number, text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::samples::Sample;

    fn readme(text: &str) -> Sample {
        Sample::new([("README.md", text)])
    }

    #[test]
    fn documents_must_be_there() {
        let all = Sample::new(DOCUMENTS.map(|path| (path, "text")));
        assert!(all.broken(are_there).is_empty());
        assert_eq!(readme("text").broken(are_there).len(), DOCUMENTS.len() - 1);
    }

    #[test]
    fn live_links_pass() {
        let text = "[a](crates/a.md#part) [`a`](./crates \"title\") [b](https://example.org/x) [c](#part)\n\
                    [d](crate::Sgd) `[e](nowhere)` <img src=\"crates/a.md\">\n[f]: crates/a.md\n```md\n[g](no.md)\n```\n";
        let sample = Sample::new([("README.md", text), ("crates/a.md", "[up](../README.md) [self](a.md)")]);
        assert_eq!(sample.broken(links_lead_somewhere), [""; 0]);
    }

    #[test]
    fn dead_links_do_not() {
        for dead in ["[a](no.md)", "[`a`](crates/)", "[a]: no.md", "<a href=\"no.md\">", "[a](../README.md)"] {
            assert_eq!(readme(&format!("text\n\n{dead}\n")).broken(links_lead_somewhere), ["README.md:3"], "{dead}");
        }
    }

    const SET_UP: &str =
        "# Title\n\n## Set up\n\n```sh\n# first\ncargo a\ncargo b\n```\n\n## Use\n\n```sh\ncargo c\n```\n";

    #[test]
    fn two_commands_pass() {
        assert_eq!(readme(SET_UP).broken(set_up_is_two_commands), [""; 0]);
    }

    #[test]
    fn other_numbers_of_commands_do_not() {
        for (from, to) in [
            ("cargo b\n", ""),
            ("cargo b\n", "cargo b\ncargo d\n"),
            ("cargo b\n", "```\n\n```sh\ncargo b\n"),
            ("```sh\n# first", "```bash\n# first"),
        ] {
            let text = SET_UP.replacen(from, to, 1);
            assert_eq!(readme(&text).broken(set_up_is_two_commands), ["README.md:3"], "{text}");
        }
        let other = SET_UP.replace("Set up", "Start");
        assert_eq!(readme(&other).broken(set_up_is_two_commands), ["README.md:0"]);
    }

    #[test]
    fn one_title_comes_first() {
        let late = format!("Text.\n\n{SET_UP}");
        assert_eq!(readme(&late).broken(set_up_is_two_commands), ["README.md:1"]);
        let second = SET_UP.replace("## Use", "# Use");
        assert_eq!(readme(&second).broken(set_up_is_two_commands), ["README.md:11"]);
    }
}
