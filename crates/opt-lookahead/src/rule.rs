//! The formula of Lookahead.

use opt_core::rule::{
    Block, Done, Kernel, Real, SlotSpec, SparseUpdate, Step, VariableScalars, VariableStep, WeightsOrder,
};
use opt_core::{Scalar, UpdateRule};

use crate::config::Lookahead;

/// The slot of the slow weights, s.
const SLOW: &str = "slow";

/// Goes part of the way. The gradient has been used by the rule inside.
fn blend<E: Real>(alpha: &E, w: E, _g: E, [s]: [E; 1]) -> (E, [E; 1]) {
    let s = s + *alpha * (w - s);
    (s, [s])
}

/// Goes all the way: alpha is 1, but `s + (w - s)` would round.
fn copy<E: Real>((): &(), w: E, _g: E, [_s]: [E; 1]) -> (E, [E; 1]) {
    (w, [w])
}

/// How the fast weights and the slow weights are combined.
#[derive(Debug, Clone, Copy)]
enum Sync {
    Blend { alpha: f64 },
    Copy,
}

struct Steps<'a, T> {
    inner: Box<dyn Kernel<T> + 'a>,
    /// The synchronisation after the rule inside, if this step has one.
    sync: Option<Sync>,
}

#[deny(clippy::missing_trait_methods, reason = "every method must be forwarded")]
impl<T: Scalar> Kernel<T> for Steps<'_, T> {
    fn begin_variable(&self, variable: &VariableStep<'_>, scalars: &mut [f64]) -> VariableScalars {
        self.inner.begin_variable(variable, scalars)
    }

    fn update(&self, mut block: Block<'_, T>) -> Done {
        let Some(sync) = self.sync else { return self.inner.update(block.into_slots(1..)) };
        if block.is_touched() || self.inner.visits_untouched_rows() {
            self.inner.update(block.with_slots(1..));
        }
        match sync {
            Sync::Blend { alpha } => block.elementwise(SparseUpdate::Dense, &T::literal(alpha), blend),
            Sync::Copy => block.elementwise(SparseUpdate::Dense, &(), copy),
        }
    }

    fn visits_untouched_rows(&self) -> bool {
        self.sync.is_some() || self.inner.visits_untouched_rows()
    }
}

#[deny(clippy::missing_trait_methods, reason = "every method must be forwarded")]
impl<T: Scalar, R: UpdateRule<T>> UpdateRule<T> for Lookahead<R> {
    fn adjusted_learning_rate(&self, learning_rate: f64, step: u64) -> f64 {
        self.inner.rule.adjusted_learning_rate(learning_rate, step)
    }

    fn learning_rate_at(&self, step: u64) -> f64 {
        self.inner.rule.learning_rate_at(step)
    }

    fn slots(&self) -> Vec<SlotSpec> {
        let mut slots = vec![SlotSpec::copy_of_variable(SLOW)];
        for slot in self.inner.rule.slots() {
            let slot = free_name(&slots, slot.name()).map_or(slot.clone(), |name| slot.renamed(name));
            slots.push(slot);
        }
        slots
    }

    fn needs_gradient_norm(&self) -> bool {
        self.inner.rule.needs_gradient_norm()
    }

    fn begin_step<'a>(&'a self, step: &Step, shared: &mut [f64]) -> Box<dyn Kernel<T> + 'a> {
        self.around(step, self.inner.rule.begin_step(step, shared))
    }

    fn weights_order(&self) -> WeightsOrder {
        self.inner.rule.weights_order()
    }
}

impl<R> Lookahead<R> {
    /// A step around a step of the rule inside.
    pub(crate) fn around<'a, T: Scalar>(&self, step: &Step, inner: Box<dyn Kernel<T> + 'a>) -> Box<dyn Kernel<T> + 'a> {
        let (k, alpha) = (self.sync.sync_period, self.sync.slow_step_size);
        let sync = if alpha == 1.0 { Sync::Copy } else { Sync::Blend { alpha } };
        let sync = step.number().is_multiple_of(k).then_some(sync);
        Box::new(Steps { inner, sync })
    }
}

/// If the name is taken, the first free one of `slow_2`, `slow_3`, ...; only `slow` and these names can be taken.
fn free_name(slots: &[SlotSpec], name: &str) -> Option<String> {
    let taken = |name: &str| slots.iter().any(|slot| slot.name() == name);
    let mut names = (2..).map(|number| format!("{SLOW}_{number}")).filter(|name| !taken(name));
    if taken(name) { names.next() } else { None }
}
