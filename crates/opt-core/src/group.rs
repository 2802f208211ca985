//! Groups of variables with options of their own.

use std::fmt;
use std::sync::Arc;

use regex::Regex;

use crate::clip::Clip;
use crate::decay::compiled;
use crate::error::Error;
use crate::hyper::Hyper;
use crate::real::Scalar;
use crate::rule::UpdateRule;

/// Variables with other options than the rest, or with a rule of their own: no weight decay on biases, a smaller
/// learning rate for a backbone, frozen layers.
///
/// A variable belongs to the first group that it matches, in the order of
/// [`OptimizerBuilder::group`](crate::OptimizerBuilder::group), or else to the default group, which has the options of
/// the optimizer. What a group does not say is as in the default group. A group that says nothing is refused.
///
/// | option | default group's, unless |
/// |---|---|
/// | learning rate | [`learning_rate`](Self::learning_rate), [`learning_rate_scale`](Self::learning_rate_scale) |
/// | decoupled weight decay | [`weight_decay`](Self::weight_decay) |
/// | clips by value and by norm | [`clipvalue`](Self::clipvalue), [`clipnorm`](Self::clipnorm), [`global_clipnorm`](Self::global_clipnorm) |
/// | averages | [`average`](Self::average) |
/// | rule | [`rule`](Self::rule) |
/// | trained | [`frozen`](Self::frozen) |
///
/// # Examples
///
/// ```
/// use opt_core::{Group, Optimizer, Variable};
/// use opt_sgd::Sgd;
///
/// let mut opt = Optimizer::builder(Sgd::new(0.5))
///     .weight_decay(0.5)
///     .group(Group::matching(r"bias$").weight_decay(0.0))
///     .group(Group::matching(r"^head/").learning_rate_scale(0.5))
///     .build()?;
/// let [mut kernel, mut bias, mut head] = [[1.0], [1.0], [1.0]];
/// opt.apply_gradients([
///     Variable::new("dense/kernel", &mut kernel).gradient(&[1.0]),
///     Variable::new("dense/bias", &mut bias).gradient(&[1.0]),
///     Variable::new("head/kernel", &mut head).gradient(&[1.0]),
/// ])?;
/// assert_eq!((kernel, bias, head), ([0.25], [0.5], [0.625]));
/// # Ok::<(), opt_core::Error>(())
/// ```
#[doc(alias = "param_groups")]
#[doc(alias = "multi_transform")]
#[doc(alias = "with_group")]
pub struct Group<T = f32> {
    pub(crate) name: Arc<str>,
    pub(crate) select: Select,
    pub(crate) learning_rate: Option<Hyper>,
    pub(crate) learning_rate_scale: Option<f64>,
    pub(crate) weight_decay: Option<Hyper>,
    /// The group's own limits. If there is one, it takes the place of the default group's limits by value and by norm.
    pub(crate) clip: Clip,
    pub(crate) average: Option<bool>,
    pub(crate) frozen: Option<bool>,
    pub(crate) rule: Option<Arc<dyn UpdateRule<T>>>,
}

/// How a group chooses its variables.
#[derive(Clone)]
pub(crate) enum Select {
    /// Those that no other group has.
    Rest,
    /// By a regular expression that is searched in the name; compiled when the optimizer is built.
    Pattern(String, Option<Regex>),
    /// By name and shape.
    Code(Arc<Choice>),
}

/// A choice of variables by name and shape.
type Choice = dyn Fn(&str, &[usize]) -> bool + Send + Sync;

impl fmt::Debug for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rest => f.write_str("Rest"),
            Self::Pattern(pattern, _) => f.debug_tuple("Pattern").field(pattern).finish(),
            Self::Code(_) => f.write_str("Code"),
        }
    }
}

impl<T> Clone for Group<T> {
    fn clone(&self) -> Self {
        let Self { name, select, learning_rate, learning_rate_scale, weight_decay, clip, average, frozen, rule } = self;
        Self {
            name: Arc::clone(name),
            select: select.clone(),
            learning_rate: learning_rate.clone(),
            learning_rate_scale: *learning_rate_scale,
            weight_decay: weight_decay.clone(),
            clip: *clip,
            average: *average,
            frozen: *frozen,
            rule: rule.clone(),
        }
    }
}

impl<T> fmt::Debug for Group<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.name)
            .field("select", &self.select)
            .field("learning_rate", &self.learning_rate)
            .field("learning_rate_scale", &self.learning_rate_scale)
            .field("weight_decay", &self.weight_decay)
            .field("clip", &self.clip)
            .field("average", &self.average)
            .field("frozen", &self.frozen)
            .field("rule", &self.rule.as_ref().map(|rule| rule.class_name().to_owned()))
            .finish()
    }
}

impl<T> Group<T> {
    /// The name of the group of all variables that no other group matches.
    pub const DEFAULT: &'static str = "default";

    /// The variables whose names contain a match of a regular expression, as
    /// [`Exclude::patterns`](crate::Exclude::patterns). The group has the pattern as its [name](Self::named).
    ///
    /// The first step refuses a pattern that gets no variable.
    pub fn matching(pattern: impl Into<String>) -> Self {
        let pattern = pattern.into();
        Self::new(pattern.as_str().into(), Select::Pattern(pattern, None))
    }

    /// The variables that a function chooses by name and shape. A configuration cannot hold code:
    /// [`Optimizer::to_config`](crate::Optimizer::to_config) then refuses.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::Group;
    ///
    /// // No weight decay on vectors and numbers: biases and the scales of normalisation layers.
    /// let vectors: Group = Group::choosing("vectors", |_name, shape| shape.len() <= 1).weight_decay(0.0);
    /// assert_eq!(vectors.name(), "vectors");
    /// ```
    pub fn choosing(name: impl Into<String>, choose: impl Fn(&str, &[usize]) -> bool + Send + Sync + 'static) -> Self {
        Self::new(name.into().into(), Select::Code(Arc::new(choose)))
    }

    /// The default group, which says at most that it is frozen.
    pub(crate) fn rest() -> Self {
        Self::new(Self::DEFAULT.into(), Select::Rest)
    }

    fn new(name: Arc<str>, select: Select) -> Self {
        Self {
            name,
            select,
            learning_rate: None,
            learning_rate_scale: None,
            weight_decay: None,
            clip: Clip::default(),
            average: None,
            frozen: None,
            rule: None,
        }
    }

    /// The name of the group.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the group another name, by which reports and [`Optimizer::groups`](crate::Optimizer::groups) list it. No
    /// two groups may have the same name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into().into();
        self
    }

    /// A learning rate of its own: a number, at least 0, or a schedule. With a [rule](Self::rule) of its own, it takes
    /// the place of that rule's learning rate.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: impl Into<Hyper>) -> Self {
        self.learning_rate = Some(learning_rate.into());
        self
    }

    /// A factor of the default group's learning rate, at least 0. A group with a learning rate or a rule of its own has
    /// none.
    #[must_use]
    pub fn learning_rate_scale(mut self, factor: f64) -> Self {
        self.learning_rate_scale = Some(factor);
        self
    }

    /// A decoupled weight decay of its own, at least 0: a number or a schedule, which is multiplied by the group's
    /// learning rate. 0 is none.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: impl Into<Hyper>) -> Self {
        self.weight_decay = Some(weight_decay.into());
        self
    }

    /// Limits each element of a gradient to `-limit..=limit`; `limit` is positive. A clip of the group takes the place
    /// of the optimizer's clips by value and by norm. A clip of the optimizer by the global norm comes after it, and is
    /// over all groups.
    #[must_use]
    pub fn clipvalue(mut self, limit: f64) -> Self {
        self.clip.value = Some(limit);
        self
    }

    /// Scales the gradient of each variable down to a norm of at most `limit`, which is positive: see
    /// [`clipvalue`](Self::clipvalue).
    #[must_use]
    pub fn clipnorm(mut self, limit: f64) -> Self {
        self.clip.norm = Some(limit);
        self
    }

    /// Scales the gradients of the group down, by the same factor, to a common norm of at most `limit`, which is
    /// positive: see [`clipvalue`](Self::clipvalue).
    #[must_use]
    pub fn global_clipnorm(mut self, limit: f64) -> Self {
        self.clip.global_norm = Some(limit);
        self
    }

    /// Whether the variables have averages, where the optimizer [keeps](crate::OptimizerBuilder::ema) them.
    #[must_use]
    pub fn average(mut self, average: bool) -> Self {
        self.average = Some(average);
        self
    }

    /// Does not train the variables. They cost nothing, may come without gradients, and get no slots. After
    /// [`Optimizer::unfreeze`](crate::Optimizer::unfreeze), they start as new variables do.
    #[must_use]
    pub fn frozen(mut self) -> Self {
        self.frozen = Some(true);
        self
    }

    /// A rule of its own. Weight decay, clips and averages stay those of the optimizer, unless the group says
    /// otherwise; a weight decay that the rule has by default counts where the optimizer has none.
    #[must_use]
    pub fn rule(mut self, rule: impl UpdateRule<T> + 'static) -> Self
    where
        T: Scalar,
    {
        self.rule = Some(Arc::new(rule));
        self
    }

    /// Whether the group has a variable, unless an earlier group has it.
    pub(crate) fn chooses(&self, variable: &str, shape: &[usize]) -> bool {
        match &self.select {
            Select::Rest => true,
            Select::Pattern(_, pattern) => pattern.as_ref().is_some_and(|pattern| pattern.is_match(variable)),
            Select::Code(choose) => choose(variable, shape),
        }
    }

    /// Checks the options, and compiles the pattern. `averages` tells whether the optimizer keeps averages.
    pub(crate) fn prepare(&mut self, averages: bool) -> Result<(), Error>
    where
        T: Scalar,
    {
        let name = Arc::clone(&self.name);
        let named = |error: Error| Error::in_group(&name, error);
        if self.frozen.is_none() && !self.says_more() {
            return Err(Error::GroupWithoutEffect { group: self.name.to_string() });
        }
        self.check(averages).map_err(named)?;
        if let Select::Pattern(pattern, regex) = &mut self.select {
            let pattern = compiled(pattern);
            *regex = Some(pattern.map_err(|error| named(error.into()))?);
        }
        Ok(())
    }

    /// Whether the group says something else than whether it is frozen.
    fn says_more(&self) -> bool {
        self.learning_rate.is_some()
            || self.learning_rate_scale.is_some()
            || self.weight_decay.is_some()
            || self.clip != Clip::default()
            || self.average.is_some()
            || self.rule.is_some()
    }

    /// Whether the group has a weight decay that is not the optimizer's.
    pub(crate) fn decays(&self) -> bool
    where
        T: Scalar,
    {
        match &self.weight_decay {
            Some(Hyper::Constant(rate)) => *rate != 0.0,
            Some(Hyper::Schedule(_)) => true,
            None => self.rule.as_ref().is_some_and(|rule| rule.default_weight_decay().is_some()),
        }
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen == Some(true)
    }

    /// Trains the group. A group that says nothing else says so.
    pub(crate) fn unfreeze(&mut self) {
        let is_rest = matches!(self.select, Select::Rest);
        self.frozen = if is_rest || self.says_more() { None } else { Some(false) };
    }

    fn check(&self, averages: bool) -> Result<(), Error>
    where
        T: Scalar,
    {
        let conflict = |first, second| Err(Error::Conflict { first, second });
        match (&self.learning_rate, self.learning_rate_scale, &self.rule) {
            (Some(_), Some(_), _) => return conflict("learning_rate", "learning_rate_scale"),
            (_, Some(_), Some(_)) => return conflict("learning_rate_scale", "rule"),
            (Some(rate), ..) => rate.validate("learning_rate", 0.0..)?,
            (None, Some(factor), None) => crate::config::require("learning_rate_scale", factor, 0.0..)?,
            (None, None, _) => {}
        }
        if let Some(rate) = &self.weight_decay {
            rate.validate("weight_decay", 0.0..)?;
        }
        self.clip.validate()?;
        self.clip.validate_single()?;
        if self.average == Some(true) && !averages {
            return Err(Error::NoAverages);
        }
        Ok(())
    }
}
