//! Decoupled weight decay, and the variables it leaves out.

use regex::Regex;

use crate::config::ConfigError;
use crate::hyper::Hyper;

/// Decoupled weight decay: `w -= w * weight_decay * learning_rate` before the rule.
#[derive(Debug, Clone, Default)]
pub(crate) struct WeightDecay {
    pub(crate) rate: Option<Hyper>,
    pub(crate) exclude: Exclude,
    /// Whether the configuration used the name that rules with a weight decay of their own leave to it.
    pub(crate) is_called_decoupled: bool,
}

/// Variables without weight decay, by pattern or by name.
///
/// # Examples
///
/// ```
/// use opt_core::Exclude;
///
/// let exclude = Exclude::patterns(["bias$", "^norm/"])?.and_names(["dense/scale"]);
/// assert!(exclude.matches("dense/bias") && exclude.matches("norm/offset") && exclude.matches("dense/scale"));
/// assert!(!exclude.matches("dense/kernel") && !exclude.matches("dense/scale2"));
/// # Ok::<(), opt_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Exclude {
    patterns: Vec<Regex>,
    names: Vec<String>,
}

impl Exclude {
    /// Variables whose name contains a match of one of these regular expressions: Keras's `var_names`.
    ///
    /// # Errors
    ///
    /// When one of them is no regular expression.
    pub fn patterns<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, ConfigError> {
        let compile = |pattern: S| {
            Regex::new(pattern.as_ref()).map_err(|error| ConfigError::Pattern {
                pattern: pattern.as_ref().to_owned(),
                reason: error.to_string(),
            })
        };
        Ok(Self { patterns: patterns.into_iter().map(compile).collect::<Result<_, _>>()?, names: Vec::new() })
    }

    /// Variables of exactly these names: Keras's `var_list`.
    pub fn names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::default().and_names(names)
    }

    /// Variables of exactly these names, besides the ones already left out.
    #[must_use]
    pub fn and_names<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.names.extend(names.into_iter().map(Into::into));
        self
    }

    /// Whether a variable is left out.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.names.iter().any(|excluded| excluded == name) || self.patterns.iter().any(|p| p.is_match(name))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.names.is_empty()
    }

    pub(crate) fn pattern_texts(&self) -> Vec<&str> {
        self.patterns.iter().map(Regex::as_str).collect()
    }

    pub(crate) fn name_texts(&self) -> &[String] {
        &self.names
    }
}
