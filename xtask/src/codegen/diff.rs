//! The difference of two texts in a few lines.

/// The number of lines shown of either side.
const MOST: usize = 8;

/// The lines between the common beginning and the common end, with the number of the first line that differs.
pub(super) fn short(found: &str, expected: &str) -> String {
    let (found, expected): (Vec<_>, Vec<_>) = (found.lines().collect(), expected.lines().collect());
    let start = common(found.iter(), expected.iter());
    let (found, expected) = (&found[start..], &expected[start..]);
    let end = common(found.iter().rev(), expected.iter().rev());
    let (found, expected) = (&found[..found.len() - end], &expected[..expected.len() - end]);
    format!("  @ line {}\n{}{}", start + 1, side('-', found), side('+', expected)).trim_end().to_owned()
}

fn common<'a>(a: impl Iterator<Item = &'a &'a str>, b: impl Iterator<Item = &'a &'a str>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

fn side(sign: char, lines: &[&str]) -> String {
    let shown = lines.iter().take(MOST).map(|line| format!("  {sign} {line}\n"));
    let rest = lines.len().saturating_sub(MOST);
    let more = (rest > 0).then(|| format!("  {sign} ... {rest} more\n"));
    shown.chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        assert_eq!(short("a\nb\nc\n", "a\nd\ne\nc\n"), "  @ line 2\n  - b\n  + d\n  + e");
        assert_eq!(short("a\na\n", "a\n"), "  @ line 2\n  - a");
        let long = "x\n".repeat(20);
        assert!(short("", &long).ends_with("  + ... 12 more"));
    }
}
