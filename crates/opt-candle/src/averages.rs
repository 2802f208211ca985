//! Averages in the place of the variables, for evaluation.

use opt_core::{Ema, Error as EngineError, Optimizer, UpdateRule};

use crate::element::Element;
use crate::error::Error;
use crate::optimizer::CandleOptimizer;

/// The variables of a model hold their averages until this guard is dropped.
///
/// Made by [`CandleOptimizer::averages`]. It borrows the optimizer, so that no step can run meanwhile.
#[derive(Debug)]
#[must_use = "dropping the guard swaps the model's own values back in"]
pub struct Averages<'o, R: UpdateRule<T>, T: Element = f32> {
    optimizer: &'o mut CandleOptimizer<R, T>,
}

impl<R: UpdateRule<T>, T: Element> CandleOptimizer<R, T> {
    /// Swaps the averages into the variables, until the guard is dropped. Variables that have never had a gradient keep
    /// their values.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoAverages`] if the optimizer was built without [`ema`](opt_core::OptimizerBuilder::ema);
    /// [`EngineError::UnknownVariable`] before the first step. The variables are then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use candle_core::{Device, Var};
    /// use opt_candle::CandleOptimizer;
    /// use optimizers::{Ema, Optimizer, Sgd};
    ///
    /// let w = Var::new(8.0_f32, &Device::Cpu)?;
    /// let builder = Optimizer::builder(Sgd::new(0.25)).ema(Ema::new(0.5));
    /// let mut opt = CandleOptimizer::from_named([("w", w.clone())], builder)?;
    /// opt.backward_step(&w.sqr()?)?;
    /// {
    ///     let _averages = opt.averages()?;
    ///     assert_eq!(w.to_scalar::<f32>()?, 6.0);
    /// }
    /// assert_eq!(w.to_scalar::<f32>()?, 4.0);
    /// # Ok::<(), opt_candle::Error>(())
    /// ```
    pub fn averages(&mut self) -> Result<Averages<'_, R, T>, Error> {
        if !self.engine.has_averages() {
            return Err(EngineError::NoAverages.into());
        }
        self.with_variables(|engine, variables| Ok(engine.swap_slot(Ema::SLOT, variables)?))?;
        Ok(Averages { optimizer: self })
    }

    /// Writes the averages into the variables permanently, at the end of a training.
    ///
    /// # Errors
    ///
    /// As [`averages`](Self::averages).
    pub fn finalize(&mut self) -> Result<(), Error> {
        self.with_variables(|engine, mut variables| Ok(engine.finalize_variable_values(&mut variables)?))
    }
}

impl<R: UpdateRule<T>, T: Element> Averages<'_, R, T> {
    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Optimizer<R, T> {
        &self.optimizer.engine
    }
}

impl<R: UpdateRule<T>, T: Element> Drop for Averages<'_, R, T> {
    fn drop(&mut self) {
        // The same variables were accepted when the guard was made. If another device fails now, the engine keeps
        // refusing steps.
        let _ = self.optimizer.with_variables(|engine, variables| Ok(engine.swap_back(variables)?));
    }
}
