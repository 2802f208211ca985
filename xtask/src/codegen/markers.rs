//! Generated blocks in documents that are otherwise written by hand.

use anyhow::{Context, bail};

const END: &str = "<!-- end generated -->";

/// The line that opens a block.
pub(super) fn start(name: &str) -> String {
    format!("<!-- generated: {name}, by cargo xtask codegen -->")
}

/// An empty block.
pub(super) fn empty(name: &str) -> String {
    format!("{}\n{END}\n", start(name))
}

/// Replaces the text between the marks of a block.
pub(super) fn replace(document: &str, name: &str, body: &str) -> anyhow::Result<String> {
    let start = start(name);
    let (before, rest) = document.split_once(&start).with_context(|| format!("lacks the marker `{start}`"))?;
    if rest.contains(&start) {
        bail!("has the marker `{start}` twice");
    }
    let (old, after) = rest.split_once(END).with_context(|| format!("lacks `{END}` after `{start}`"))?;
    if old.contains("<!-- generated:") {
        bail!("lacks `{END}` between `{start}` and the next marker");
    }
    Ok(format!("{before}{start}\n\n{}\n\n{END}{after}", body.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_block_changes() {
        let document = format!("a\n{}b\n{}c\n", empty("one"), empty("two"));
        let once = replace(&document, "two", "new\n").unwrap();
        assert_eq!(once, format!("a\n{}b\n{}\n\nnew\n\n{END}\nc\n", empty("one"), start("two")));
        assert_eq!(replace(&once, "two", "new\n").unwrap(), once);
    }

    #[test]
    fn wrong_markers_are_errors() {
        let unclosed = format!("{}\n{}", start("one"), empty("two"));
        for (document, expected) in [
            ("text".to_owned(), "lacks the marker `<!-- generated: one, by"),
            (start("one"), "lacks `<!-- end generated -->` after"),
            (empty("one").repeat(2), "has the marker"),
            (unclosed, "lacks `<!-- end generated -->` between"),
        ] {
            let message = replace(&document, "one", "").unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
