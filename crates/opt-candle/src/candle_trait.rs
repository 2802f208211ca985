//! The trait that candle's optimizers share.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use opt_core::{OptimizerBuilder, UpdateRule};

use crate::builder::CandleBuilder;
use crate::element::Element;
use crate::optimizer::CandleOptimizer;
use crate::variables::Source;

/// For functions that are generic over candle's optimizers.
///
/// The trait has no names: `new` calls the variables `0`, `1` and so on, in the order of the list. The order of
/// `VarMap::all_vars` is another one in each process, so such an optimizer refuses checkpoints, and groups cannot match
/// its variables. [`CandleOptimizer::from_varmap`] makes one with names, which has the same trait.
///
/// As in candle's own optimizers, `new` leaves out variables of whole numbers.
impl<R: UpdateRule<T>, T: Element> candle_nn::Optimizer for CandleOptimizer<R, T> {
    type Config = OptimizerBuilder<R, T>;

    fn new(vars: Vec<Var>, config: Self::Config) -> Result<Self> {
        let trained = vars.into_iter().filter(|var| var.dtype().is_float());
        let named = trained.enumerate().map(|(i, var)| (i.to_string(), var));
        Ok(CandleBuilder::new(config).for_source(named, Source::Numbered)?)
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        Self::step(self, grads)?;
        Ok(())
    }

    /// The rate of the next step: the one that was set, or that of the rule or its schedule.
    fn learning_rate(&self) -> f64 {
        self.learning_rate.unwrap_or_else(|| self.engine.learning_rate())
    }

    /// Sets the rate of all later steps, also in the place of a schedule, until
    /// [`clear_learning_rate`](Self::clear_learning_rate). It is not in checkpoints. If it is out of range, the next step is
    /// refused.
    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = Some(learning_rate);
    }

    fn backward_step(&mut self, loss: &Tensor) -> Result<()> {
        Self::backward_step(self, loss)?;
        Ok(())
    }
}
