//! The parts of Markdown that the laws need: text, fenced blocks, headings.

/// One line of a document; the marks of fences are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// From 1.
    pub(crate) number: usize,
    pub(crate) text: &'a str,
    /// The fenced block that contains it.
    pub(crate) block: Option<Block<'a>>,
}

/// A fenced block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block<'a> {
    /// The text behind the opening fence.
    pub(crate) info: &'a str,
    /// The number of the line of the opening fence.
    pub(crate) start: usize,
}

/// Splits a document into lines.
pub(crate) fn lines(text: &str) -> Vec<Line<'_>> {
    let mut open: Option<(&str, Block<'_>)> = None;
    let mut lines = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let number = index + 1;
        let (fence, info) = split_fence(text);
        match open {
            None if !fence.is_empty() => open = Some((fence, Block { info, start: number })),
            Some((mark, _)) if fence.starts_with(mark) && info.is_empty() => open = None,
            _ => lines.push(Line { number, text, block: open.map(|(_, block)| block) }),
        }
    }
    lines
}

/// The marks of a fence, if the line is one, and the text behind them.
fn split_fence(line: &str) -> (&str, &str) {
    let line = line.trim();
    let mark = if line.starts_with("~~~") { '~' } else { '`' };
    let rest = line.trim_start_matches(mark);
    let marks = line.len() - rest.len();
    if marks < 3 || rest.contains('`') { ("", "") } else { (&line[..marks], rest.trim()) }
}

impl<'a> Line<'a> {
    /// Level and text of a heading.
    pub(crate) fn heading(&self) -> Option<(usize, &'a str)> {
        let rest = self.text.trim_start_matches('#');
        let level = self.text.len() - rest.len();
        let is_heading = self.block.is_none() && (1..=6).contains(&level) && rest.starts_with(' ');
        is_heading.then(|| (level, rest.trim()))
    }

    /// The code spans between backticks.
    pub(crate) fn code(&self) -> impl Iterator<Item = &'a str> {
        self.text.split('`').skip(1).step_by(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_are_told_apart() {
        let text = "# A\n```sh\n# b\n~~~\n```\n````md\n```\n````\n## C d\n#e `f` and `g`\n";
        let lines = lines(text);
        let numbers: Vec<_> = lines.iter().map(|line| (line.number, line.block.map(|block| block.info))).collect();
        assert_eq!(numbers, [(1, None), (3, Some("sh")), (4, Some("sh")), (7, Some("md")), (9, None), (10, None)]);
        let headings: Vec<_> = lines.iter().filter_map(Line::heading).collect();
        assert_eq!(headings, [(1, "A"), (2, "C d")]);
        assert_eq!(lines[5].code().collect::<Vec<_>>(), ["f", "g"]);
    }
}
