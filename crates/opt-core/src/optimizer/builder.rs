//! Options of an optimizer, checked once.

use std::sync::Arc;

use super::Optimizer;
use super::groups::Groups;
use super::records::Records;
use super::step::threads::Threads;
use crate::accumulate::Accumulate;
use crate::clip::Clip;
use crate::collective::Distribution;
use crate::config::{Envelope, KERAS_3};
use crate::decay::{Exclude, WeightDecay};
use crate::ema::Ema;
use crate::error::Error;
use crate::group::Group;
use crate::hyper::Hyper;
use crate::loss_scale::{LossScale, Scaling};
use crate::master::Master;
use crate::moments::MomentStorage;
use crate::real::{DType, Scalar};
use crate::report::NonFinite;
use crate::rule::UpdateRule;

/// Checked options.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) clip: Clip,
    pub(super) weight_decay: WeightDecay,
    pub(super) use_ema: bool,
    pub(super) ema: Ema,
    pub(super) accumulate: Option<Accumulate>,
    pub(super) loss_scale: Option<LossScale>,
    pub(super) non_finite: NonFinite,
    pub(super) flush_denormals: bool,
    pub(super) moments: MomentStorage,
    pub(super) master: Master,
    pub(super) threads: Threads,
    pub(super) envelope: Envelope,
    /// Whether the configuration has the keys of Keras 3.
    pub(super) has_keras3_keys: bool,
    /// The form of Keras's `LossScaleOptimizer`, if the configuration was read inside one.
    pub(super) wrapper: Option<Envelope>,
    pub(super) ranks: Option<Arc<dyn Distribution>>,
}

impl Options {
    /// What can be compared between ranks, also where schedules or groups hold code.
    pub(super) fn in_numbers<T: Scalar>(&self, groups: &[Group<T>]) -> String {
        let Self { clip, use_ema, ema, accumulate, loss_scale, non_finite, flush_denormals, moments, master, .. } =
            self;
        let engine = format!(
            "{clip:?}, {use_ema} {ema:?}, {accumulate:?}, {loss_scale:?}, {non_finite:?}, {flush_denormals}, {moments:?}, \
             {master:?}"
        );
        let of_group = |group: &Group<T>| {
            let Group { name, learning_rate_scale, clip, average, frozen, rule, .. } = group;
            let rule = rule.as_ref().map(|rule| (rule.class_name().to_owned(), rule.config().ok()));
            format!("; {name}: {learning_rate_scale:?}, {clip:?}, {average:?}, {frozen:?}, {rule:?}")
        };
        groups.iter().map(of_group).fold(engine, |text, group| text + &group)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clip: Clip::default(),
            weight_decay: WeightDecay::default(),
            use_ema: false,
            ema: Ema::default(),
            accumulate: None,
            loss_scale: None,
            non_finite: NonFinite::default(),
            flush_denormals: true,
            moments: MomentStorage::default(),
            master: Master::default(),
            threads: Threads::default(),
            envelope: Envelope::default(),
            has_keras3_keys: false,
            wrapper: None,
            ranks: None,
        }
    }
}

/// The options of an optimizer that is being built.
///
/// Setters accept any value; [`build`](Self::build) checks them all.
#[derive(Debug, Clone)]
pub struct OptimizerBuilder<R, T = f32> {
    pub(super) rule: R,
    pub(super) options: Options,
    pub(super) thread_count: Option<usize>,
    pub(super) groups: Vec<Group<T>>,
}

impl<R: UpdateRule<T>, T: Scalar> OptimizerBuilder<R, T> {
    pub(super) fn new(rule: R) -> Self {
        let mut options = Options::default();
        options.weight_decay.rate = rule.default_weight_decay().map(Hyper::from);
        Self { rule, options, thread_count: None, groups: Vec::new() }
    }

    /// Limits each element of a gradient to `-limit..=limit`; `limit` is positive. No limit by default. Several
    /// gradients of the same row of a sparse gradient are limited before they are summed.
    #[doc(alias = "clip_grad_value_")]
    #[must_use]
    pub fn clipvalue(mut self, limit: f64) -> Self {
        self.options.clip.value = Some(limit);
        self
    }

    /// Scales the gradient of each variable down to a norm of at most `limit`, which is positive. No limit by default.
    ///
    /// The norm of a sparse gradient is that of its values as given, as in TensorFlow: gradients of the same row are
    /// clipped first, then summed, so the norm of their sum may be larger than `limit`. With a limit of 1, the
    /// gradients 3 and 4 of one row become 0.6 and 0.8, and the row moves by 1.4 times the learning rate.
    #[must_use]
    pub fn clipnorm(mut self, limit: f64) -> Self {
        self.options.clip.norm = Some(limit);
        self
    }

    /// Scales all gradients down, by the same factor, to a common norm of at most `limit`, which is positive. No limit
    /// by default. Several gradients of the same row are clipped before they are summed, as in
    /// [`clipnorm`](Self::clipnorm).
    ///
    /// R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", arXiv:1211.5063.
    #[doc(alias = "clip_grad_norm_")]
    #[doc(alias = "clip_by_global_norm")]
    #[doc(alias = "with_grad_clipping")]
    #[must_use]
    pub fn global_clipnorm(mut self, limit: f64) -> Self {
        self.options.clip.global_norm = Some(limit);
        self
    }

    /// Decoupled weight decay, a number or a schedule: `w -= w * weight_decay * learning_rate` before the rule. The
    /// decay is not part of the gradient, and is not clipped. None by default, unless the rule
    /// [has one](crate::config::Hyperparameters::default_weight_decay), which this replaces. With the arithmetic of
    /// [Keras](crate::config::Dialect::Keras) the number is rounded to 32 bits, as it is there, for variables in 64
    /// bits, too.
    ///
    /// I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", arXiv:1711.05101.
    #[doc(alias = "add_decayed_weights")]
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: impl Into<Hyper>) -> Self {
        self.options.weight_decay.rate = Some(weight_decay.into());
        self
    }

    /// Excludes variables from decoupled weight decay. [`build`](Self::build) refuses exclusions where the optimizer
    /// has no [`weight_decay`](Self::weight_decay): a weight decay of the rule itself applies to every variable.
    #[must_use]
    pub fn exclude_from_weight_decay(mut self, exclude: Exclude) -> Self {
        self.options.weight_decay.set_exclude(exclude);
        self
    }

    /// Keeps an exponential moving average of each variable, in the slot `average`. None by default.
    #[doc(alias = "AveragedModel")]
    #[doc(alias = "use_ema")]
    #[must_use]
    pub fn ema(mut self, ema: Ema) -> Self {
        self.options.use_ema = true;
        self.options.envelope.forget(&["ema_momentum", "ema_overwrite_frequency"]);
        if !ema.includes_all {
            // They would say that these are averages of Keras 3.
            self.options.envelope.forget(&KERAS_3);
        }
        self.options.ema = ema;
        self
    }

    /// Makes one step of several calls, whose gradients are summed. No accumulation by default.
    #[must_use]
    pub fn accumulate(mut self, accumulate: Accumulate) -> Self {
        self.options.accumulate = Some(accumulate);
        self
    }

    /// Takes gradients of a scaled loss: see [`LossScale`]. The loss is not scaled by default.
    #[must_use]
    pub fn loss_scale(mut self, loss_scale: LossScale) -> Self {
        self.options.loss_scale = Some(loss_scale);
        self
    }

    /// Sets the policy for gradients that are infinite or NaN; [`NonFinite::Propagate`] by default.
    #[doc(alias = "apply_if_finite")]
    #[doc(alias = "error_if_nonfinite")]
    #[must_use]
    pub fn non_finite(mut self, policy: NonFinite) -> Self {
        self.options.non_finite = policy;
        self
    }

    /// Whether numbers of slots and averages become 0 when they are too small for full precision (below 1.2e-38 in 32
    /// bits, 2.2e-308 in 64). `true` by default, as in TensorFlow, whose kernels run that way.
    ///
    /// Arithmetic with such denormal numbers can be 30 times slower. They arise where gradients stay 0 for long: the
    /// moments of rarely touched rows decay towards 0. Either way, the results are the same on every machine, and
    /// gradients and variables are not flushed.
    #[must_use]
    pub fn flush_denormals(mut self, flush: bool) -> Self {
        self.options.flush_denormals = flush;
        self
    }

    /// Sets how the moments of the rule are stored; in full by default.
    #[must_use]
    pub fn moments(mut self, storage: MomentStorage) -> Self {
        self.options.moments = storage;
        self
    }

    /// Sets how much more than a variable in [16 bits](crate::Variable::half) the optimizer remembers of it; a copy in
    /// 32 bits by default.
    #[must_use]
    pub fn master(mut self, master: Master) -> Self {
        self.options.master = master;
        self
    }

    /// Runs steps on this number of threads of its own; 1 is the calling thread. By default, steps run on rayon's pool.
    /// The number of threads does not change a bit of the results.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.thread_count = Some(threads);
        self
    }

    /// Sets how the variables are distributed over ranks. Every rank then makes the same calls.
    #[must_use]
    pub fn distributed(mut self, distribution: impl Distribution + 'static) -> Self {
        self.options.ranks = Some(Arc::new(distribution));
        self
    }

    /// Adds a group of variables with options or a rule of its own. A variable belongs to the first group that matches
    /// it, in the order of these calls.
    #[must_use]
    pub fn group(mut self, group: Group<T>) -> Self {
        self.groups.push(group);
        self
    }

    /// Boxes the rule, so that optimizers with different rules have the same type.
    #[must_use]
    pub fn boxed(self) -> OptimizerBuilder<Box<dyn UpdateRule<T>>, T>
    where
        R: 'static,
    {
        let Self { rule, options, thread_count, groups } = self;
        OptimizerBuilder { rule: Box::new(rule), options, thread_count, groups }
    }

    /// Checks every option and hyperparameter, and makes the optimizer.
    ///
    /// # Errors
    ///
    /// Names the first option that is out of range, two options that exclude each other, an exclusion without weight
    /// decay, a pattern that is not a regular expression, or the problem with the rule's slots.
    pub fn build(self) -> Result<Optimizer<R, T>, Error> {
        let Self { rule, mut options, thread_count, groups } = self;
        options.clip.validate()?;
        if !rule.dialect().is_legacy() {
            options.clip.validate_single()?;
        }
        if let Some(rate) = &options.weight_decay.rate {
            rate.validate("weight_decay", 0.0..)?;
        }
        options.weight_decay.compile(groups.iter().any(Group::decays))?;
        options.ema.validate()?;
        if let Some(accumulate) = &options.accumulate {
            accumulate.validate()?;
            if accumulate.keras3 && options.use_ema && !options.ema.includes_all {
                return Err(Error::Conflict { first: "Accumulate::keras3", second: "averages other than Ema::keras3" });
            }
        }
        if let Some(loss_scale) = &options.loss_scale {
            loss_scale.validate()?;
            if loss_scale.growth_interval.is_some() && options.non_finite == NonFinite::Error {
                return Err(Error::Conflict { first: "a dynamic loss_scale", second: "NonFinite::Error" });
            }
        }
        if options.moments != MomentStorage::Full && T::DTYPE != DType::F32 {
            return Err(Error::MomentStorage { dtype: T::DTYPE });
        }
        if options.master != Master::Full && T::DTYPE != DType::F32 {
            return Err(Error::Master { dtype: T::DTYPE });
        }
        options.threads = Threads::new(thread_count)?;
        let groups = Groups::new(&rule, groups, options.use_ema, options.moments)?;
        Ok(Optimizer {
            records: Records::new(options.moments),
            scaling: Scaling::new(options.loss_scale),
            micro_step: 0,
            rule,
            options,
            groups,
            iterations: 0,
            swapped_in: None,
            poisoned: false,
            buckets: Vec::new(),
        })
    }
}
