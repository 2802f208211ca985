//! The features of the umbrella, with the descriptions in its manifest.

use anyhow::Context;

/// One feature.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Feature {
    pub(super) name: String,
    /// The comment above it.
    pub(super) what: String,
}

/// Reads the section `[features]`: each feature but `default`, with the `##` comment above it.
pub(super) fn read(manifest: &str) -> anyhow::Result<Vec<Feature>> {
    let lines = manifest.lines().skip_while(|line| line.trim() != "[features]").skip(1);
    let (mut features, mut comment) = (Vec::new(), Vec::new());
    for line in lines.take_while(|line| !line.starts_with('[')) {
        if let Some(text) = line.strip_prefix("##") {
            comment.push(text.trim());
        } else if let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with([' ', '#'])) {
            features.extend(feature(name.trim(), &std::mem::take(&mut comment).join(" "))?);
        }
    }
    Ok(features)
}

fn feature(name: &str, what: &str) -> anyhow::Result<Option<Feature>> {
    if name == "default" {
        return Ok(None);
    }
    let what = Some(what).filter(|what| !what.is_empty());
    let what = what.with_context(|| format!("feature {name:?} has no comment `## ...` above it"))?;
    Ok(Some(Feature { name: name.to_owned(), what: what.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_come_with_their_comments() {
        let manifest = "[package]\na = 1\n[features]\ndefault = [\"b\"]\n## What b\n## does.\nb = [\n    \"c\",\n]\n\
                        # Not shown.\n## C.\nc = []\n\n[dependencies]\nd = \"1\"\n";
        let features = read(manifest).unwrap();
        let pairs: Vec<_> = features.iter().map(|feature| (feature.name.as_str(), feature.what.as_str())).collect();
        assert_eq!(pairs, [("b", "What b does."), ("c", "C.")]);
    }

    #[test]
    fn a_feature_needs_a_comment() {
        let message = read("[features]\n## A.\na = []\nb = []\n").unwrap_err().to_string();
        assert!(message.starts_with("feature \"b\" has no comment"), "{message}");
    }
}
