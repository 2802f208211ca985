//! Decoupled weight decay, and the variables that are excluded from it.

use regex::Regex;

use crate::config::ConfigError;
use crate::error::Error;
use crate::hyper::Hyper;

/// Decoupled weight decay: `w -= w * weight_decay * learning_rate` before the rule.
#[derive(Debug, Clone, Default)]
pub(crate) struct WeightDecay {
    pub(crate) rate: Option<Hyper>,
    exclude: Exclude,
    /// The patterns of `exclude`, compiled.
    compiled: Vec<Regex>,
    /// Whether the configuration used `decoupled_weight_decay`, the engine's key beside a rule with a weight decay of
    /// its own.
    pub(crate) is_called_decoupled: bool,
    /// Whether a step has found a variable for each name of `exclude`.
    names_are_known: bool,
}

impl WeightDecay {
    pub(crate) fn exclude(&self) -> &Exclude {
        &self.exclude
    }

    /// Stores exclusions unchecked; [`compile`](Self::compile) checks them.
    pub(crate) fn set_exclude(&mut self, exclude: Exclude) {
        self.exclude = exclude;
        self.compiled.clear();
        self.names_are_known = false;
    }

    /// Compiles the patterns. Refuses exclusions where there is no weight decay to exclude variables from.
    /// `in_groups` tells whether a group has a weight decay of its own.
    pub(crate) fn compile(&mut self, in_groups: bool) -> Result<(), Error> {
        if self.rate.is_none() && !in_groups && !self.exclude.is_empty() {
            return Err(Error::NothingToExcludeFrom);
        }
        self.compiled = self.exclude.patterns.iter().map(|pattern| compiled(pattern)).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Checks, until it has succeeded once, that each excluded name is that of a variable.
    pub(crate) fn check_names(&mut self, is_variable: impl Fn(&str) -> bool) -> Result<(), Error> {
        if self.names_are_known {
            return Ok(());
        }
        if let Some(name) = self.exclude.names.iter().find(|name| !is_variable(name)) {
            return Err(Error::UnknownExclusion { name: name.clone() });
        }
        self.names_are_known = true;
        Ok(())
    }

    /// The excluded names, then the patterns, that match none of these variables.
    pub(crate) fn unmatched<'v, I: Iterator<Item = &'v str>>(&self, variables: impl Fn() -> I) -> Vec<&str> {
        let names = self.exclude.names.iter().filter(|name| !variables().any(|variable| variable == **name));
        let patterns = self.exclude.patterns.iter().zip(&self.compiled);
        let patterns = patterns.filter(|(_, compiled)| !variables().any(|variable| compiled.is_match(variable)));
        names.chain(patterns.map(|(pattern, _)| pattern)).map(String::as_str).collect()
    }

    /// Whether weight decay, if there is any, applies to a variable.
    pub(crate) fn applies_to(&self, variable: &str) -> bool {
        let by_name = self.exclude.names.iter().any(|excluded| excluded == variable);
        !by_name && !self.compiled.iter().any(|pattern| pattern.is_match(variable))
    }
}

/// Compiles a pattern of Python's.
pub(crate) fn compiled(pattern: &str) -> Result<Regex, ConfigError> {
    let refused = |error: regex::Error| ConfigError::Pattern { pattern: pattern.to_owned(), reason: error.to_string() };
    Regex::new(&from_python(pattern)).map_err(refused)
}

/// A pattern of Python's in the syntax of the crate `regex`: the end of the text, `\Z`, is `\z` there, and `\<` and
/// `\>`, which are plain characters in Python, are the ends of a word there.
fn from_python(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            translated.push(character);
            continue;
        }
        match characters.next() {
            Some('Z') => translated.push_str("\\z"),
            Some(plain @ ('<' | '>')) => translated.push(plain),
            escaped => {
                translated.push('\\');
                translated.extend(escaped);
            }
        }
    }
    translated
}

/// Variables without weight decay, by pattern or by name. [`build`](crate::OptimizerBuilder::build) refuses patterns
/// that are not regular expressions, and exclusions where the optimizer has no weight decay.
///
/// A name must be that of a variable of the first step, or of one that is known before it; the step is refused
/// otherwise. [`add_variables`](crate::Optimizer::add_variables) announces variables that get their first gradient
/// later. A pattern may match none, so that the same patterns serve many models;
/// [`unmatched_exclusions`](crate::Optimizer::unmatched_exclusions) lists such patterns.
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use opt_core::{Exclude, Optimizer, Variable};
/// use opt_sgd::Sgd;
///
/// let exclude = Exclude::patterns(["^norm/"]).and_names(["dense/bias"]);
/// let mut opt = Optimizer::builder(Sgd::new(0.5)).weight_decay(0.5).exclude_from_weight_decay(exclude).build()?;
/// let (mut kernel, mut bias, grad) = (array![1.0], array![1.0], array![0.0]);
/// opt.apply_gradients([
///     Variable::new("dense/kernel", &mut kernel).gradient(&grad),
///     Variable::new("dense/bias", &mut bias).gradient(&grad),
/// ])?;
/// assert_eq!((kernel[0], bias[0]), (0.75, 1.0));
/// # Ok::<(), opt_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exclude {
    patterns: Vec<String>,
    names: Vec<String>,
}

impl Exclude {
    /// Excludes variables whose name contains a match of one of these regular expressions: Keras's `var_names`.
    /// Python's `\Z` and Rust's `\z` both match the end of a name.
    pub fn patterns<S: Into<String>>(patterns: impl IntoIterator<Item = S>) -> Self {
        Self { patterns: patterns.into_iter().map(Into::into).collect(), names: Vec::new() }
    }

    /// Excludes variables of exactly these names: Keras's `var_list`.
    pub fn names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::default().and_names(names)
    }

    /// Also excludes variables of exactly these names.
    #[must_use]
    pub fn and_names<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.names.extend(names.into_iter().map(Into::into));
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.names.is_empty()
    }

    pub(crate) fn pattern_texts(&self) -> &[String] {
        &self.patterns
    }

    pub(crate) fn name_texts(&self) -> &[String] {
        &self.names
    }
}
