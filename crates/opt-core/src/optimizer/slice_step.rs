//! The step of a rule over numbers that somebody else than an optimizer keeps.

use std::fmt;

use super::rulings::check_rule;
use super::slots::{SlotPlace, places};
use super::step::check::{decay, require_in};
use super::step::norms::Question;
use super::step::storage::Values;
use crate::error::Error;
use crate::loops::{self, BLOCK};
use crate::precision::Any;
use crate::real::Scalar;
use crate::rule::{Block, Kernel, Step, UpdateRule, VariableStep, Workspace};

/// One step of a rule, without an optimizer: the caller keeps variables, slots and the step counter. For frameworks
/// whose own records hold the state of their optimizers.
///
/// Only the rule and decoupled weight decay run here, on the calling thread: no clips, no averages, no checks of
/// gradients, no numbers in 16 bits. The results have the same bits as those of an
/// [`Optimizer`](crate::Optimizer).
///
/// # Examples
///
/// ```
/// use opt_core::SliceStep;
/// use opt_core::rule::Step;
/// use opt_sgd::Sgd;
///
/// let rule = Sgd::new(0.5).momentum(0.5);
/// let (mut w, mut momentum) = ([1.0, 2.0], [0.0; 2]);
/// for iteration in 0..2 {
///     let mut step = SliceStep::new(&rule, &Step::new(iteration, 0.5), &mut [])?;
///     step.update("w", &mut w, &[1.0, 0.0], &mut [&mut momentum], &mut [])?;
/// }
/// assert_eq!((w, momentum), ([-0.25, 2.0], [-0.75, 0.0]));
/// # Ok::<(), opt_core::Error>(())
/// ```
pub struct SliceStep<'r, T> {
    class: &'r str,
    kernel: Box<dyn Kernel<T> + 'r>,
    needs_norm: bool,
    /// Weight decay times learning rate.
    decay: Option<T>,
    arrays: usize,
    scalars: usize,
    workspace: Workspace<T>,
}

impl<'r, T: Scalar> SliceStep<'r, T> {
    /// Begins a step with the rule's own weight decay, if it has one (AdamW has).
    ///
    /// `step` says how many steps came before, and the learning rate: that of the rule is
    /// [`learning_rate_at`](UpdateRule::learning_rate_at), that of a caller with its own schedule is
    /// [`adjusted_learning_rate`](UpdateRule::adjusted_learning_rate). `shared` holds the
    /// [shared slots](crate::rule::SlotSpec::shared), in their order; the step changes them, so they must be those from
    /// before the step if a second `SliceStep` makes the same step for other variables.
    ///
    /// # Errors
    ///
    /// When a hyperparameter or the learning rate is out of range, or `shared` has the wrong length.
    pub fn new<R: UpdateRule<T> + ?Sized>(rule: &'r R, step: &Step, shared: &mut [f64]) -> Result<Self, Error> {
        Self::with_weight_decay(rule, step, shared, rule.default_weight_decay())
    }

    /// As [`new`](Self::new), with another decoupled weight decay, or none.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); when the weight decay is out of range.
    pub fn with_weight_decay<R: UpdateRule<T> + ?Sized>(
        rule: &'r R,
        step: &Step,
        shared: &mut [f64],
        weight_decay: Option<f64>,
    ) -> Result<Self, Error> {
        check_rule(rule)?;
        require_in::<T>("learning_rate", step.learning_rate)?;
        let decay = weight_decay.map(|rate| decay::<T>(rate, step.learning_rate, rule.dialect())).transpose()?;
        let slots = rule.slots();
        let count = |is: fn(SlotPlace) -> bool| {
            places(&slots).filter_map(|(_, place)| place).filter(|place| is(*place)).count()
        };
        let arrays = count(|place| matches!(place, SlotPlace::Array(_)));
        let scalars = count(|place| matches!(place, SlotPlace::Scalar(_)));
        let class = rule.class_name();
        check_count(class, "shared slots", slots.len() - arrays - scalars, shared.len())?;
        Ok(Self {
            class,
            kernel: rule.begin_step(step, shared),
            needs_norm: rule.needs_gradient_norm(),
            decay: decay.map(T::literal),
            arrays,
            scalars,
            workspace: Workspace::default(),
        })
    }

    /// Updates a variable: its numbers, its array slots and its scalar slots, both in the order of
    /// [`UpdateRule::slots`]. Before the first step of a variable, slots have the values of
    /// [`SlotSpec::init`](crate::rule::SlotSpec::init).
    ///
    /// # Errors
    ///
    /// When the gradient or a slot has not as many numbers as the variable, or the rule has another number of slots.
    /// Nothing has then changed.
    pub fn update(
        &mut self,
        name: &str,
        value: &mut [T],
        gradient: &[T],
        slots: &mut [&mut [T]],
        scalars: &mut [f64],
    ) -> Result<(), Error> {
        let len = value.len();
        check_count(self.class, "array slots", self.arrays, slots.len())?;
        check_count(self.class, "scalar slots", self.scalars, scalars.len())?;
        let lengths = slots.iter().map(|slot| slot.len()).chain([gradient.len()]);
        if let Some(found) = lengths.into_iter().find(|found| *found != len) {
            return Err(Error::GradientShape { variable: name.to_owned(), gradient: vec![found], shape: vec![len] });
        }
        let gradient_square_sum = self.needs_norm.then(|| square_sum(gradient));
        let numbers = self.kernel.begin_variable(&VariableStep { name, gradient_square_sum }, scalars);
        for at in (0..len).step_by(BLOCK) {
            let range = at..len.min(at + BLOCK);
            let value = &mut value[range.clone()];
            if let Some(decay) = self.decay {
                loops::decay(value, decay);
            }
            let slots = slots.iter_mut().map(|slot| &mut slot[range.clone()]);
            let mut block = Block::new(value, Some(&gradient[range.clone()]), slots, &numbers, &mut self.workspace);
            block.fused.flush_below = T::SMALLEST;
            self.kernel.update(block);
        }
        Ok(())
    }
}

impl<T> fmt::Debug for SliceStep<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SliceStep").field("class", &self.class).finish_non_exhaustive()
    }
}

/// The sum of squares of a gradient, as the engine computes it.
fn square_sum<T: Scalar>(gradient: &[T]) -> f64 {
    let question = Question { limit: None, check_finite: false, factor: 1.0 };
    question.answer(&Any::Full(Values::Slice(gradient))).scaled_square_sum(1.0)
}

fn check_count(rule: &str, what: &str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    let problem = format!("has {expected} {what}, and was given {found}");
    Err(Error::Slots { rule: rule.to_owned(), problem })
}
