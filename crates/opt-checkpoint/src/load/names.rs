//! Names in the file and names in the model.

use std::borrow::Cow;

use regex::Regex;

use crate::error::Error;

/// The choice of entries to load, and their names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    only: Option<Regex>,
    except: Option<Regex>,
    renames: Vec<Rename>,
}

/// A change of names.
#[derive(Debug, Clone)]
enum Rename {
    /// All matches are replaced.
    Replace(Regex, String),
    /// The beginning is removed, where it is there.
    Strip(String),
}

impl Names {
    pub(crate) fn only(&mut self, pattern: &str) -> Result<(), Error> {
        self.only = Some(regex(pattern)?);
        Ok(())
    }

    pub(crate) fn except(&mut self, pattern: &str) -> Result<(), Error> {
        self.except = Some(regex(pattern)?);
        Ok(())
    }

    pub(crate) fn rename(&mut self, pattern: &str, replacement: &str) -> Result<(), Error> {
        self.renames.push(Rename::Replace(regex(pattern)?, replacement.to_owned()));
        Ok(())
    }

    pub(crate) fn strip_prefix(&mut self, prefix: &str) {
        self.renames.push(Rename::Strip(prefix.to_owned()));
    }

    /// Whether some entries may stay unchanged.
    pub(crate) fn are_partial(&self) -> bool {
        self.only.is_some() || self.except.is_some()
    }

    /// Whether an entry of the model is loaded.
    pub(crate) fn select(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.is_match(name))
            && !self.except.as_ref().is_some_and(|except| except.is_match(name))
    }

    /// The model's name of an entry of the file.
    pub(crate) fn renamed<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let rename = |name: Cow<'n, str>, rename: &Rename| match rename {
            Rename::Replace(pattern, replacement) => {
                Cow::Owned(pattern.replace_all(&name, replacement.as_str()).into_owned())
            }
            Rename::Strip(prefix) => match name.strip_prefix(prefix.as_str()) {
                Some(rest) => Cow::Owned(rest.to_owned()),
                None => name,
            },
        };
        self.renames.iter().fold(Cow::Borrowed(name), rename)
    }
}

fn regex(pattern: &str) -> Result<Regex, Error> {
    let refused = |error: regex::Error| Error::Pattern { pattern: pattern.to_owned(), reason: error.to_string() };
    Regex::new(pattern).map_err(refused)
}
