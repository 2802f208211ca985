//! How a [`CandleOptimizer`] is built.

use candle_core::Var;
use candle_nn::VarMap;
use opt_core::{OptimizerBuilder, UpdateRule};

use crate::copies::Copies;
use crate::element::Element;
use crate::error::Error;
use crate::optimizer::CandleOptimizer;
use crate::variables::{Placement, Source, Variables, sorted};

/// Builds a [`CandleOptimizer`] with options that the engine does not have, or in `f64`.
///
/// # Examples
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use opt_candle::{CandleBuilder, CandleOptimizer};
/// use optimizers::{Optimizer, Sgd};
///
/// let w = Var::new(&[1.0_f64, 2.0], &Device::Cpu)?;
/// let builder = CandleBuilder::<_, f64>::new(Optimizer::builder(Sgd::new(0.5)));
/// let mut opt: CandleOptimizer<Sgd, f64> = builder.for_named([("w", w.clone())])?;
/// opt.backward_step(&w.sqr()?.sum_all()?)?;
/// assert_eq!(w.to_vec1::<f64>()?, [0.0, 0.0]);
/// # Ok::<(), opt_candle::Error>(())
/// ```
#[derive(Debug)]
pub struct CandleBuilder<R, T = f32> {
    engine: OptimizerBuilder<R, T>,
    placement: Placement,
}

impl<R: UpdateRule<T>, T: Element> CandleBuilder<R, T> {
    /// Starts from a builder of the engine, with all its options.
    #[must_use]
    pub fn new(engine: OptimizerBuilder<R, T>) -> Self {
        Self { engine, placement: Placement::Cpu }
    }

    /// Accepts variables on other devices. The state stays in the memory of the host, and steps are computed there: in
    /// each step, gradients and variables are copied to the host, and variables back. [`CandleOptimizer::copies`]
    /// counts the bytes.
    ///
    /// Saves the device's memory: AdamW needs none of it. (DeepSpeed calls this ZeRO-Offload.)
    ///
    /// # References
    ///
    /// J. Ren et al., 2021: ZeRO-Offload: Democratizing Billion-Scale Model Training. arXiv:2101.06840.
    #[must_use]
    pub fn offload(mut self) -> Self {
        self.placement = Placement::Offload;
        self
    }

    /// Copies variables of the CPU as if they were on another device.
    #[cfg(test)]
    pub(crate) fn copy_all(mut self) -> Self {
        self.placement = Placement::CopyAll;
        self
    }

    /// As [`CandleOptimizer::from_varmap`].
    ///
    /// # Errors
    ///
    /// As [`CandleOptimizer::from_varmap`].
    pub fn for_varmap(self, map: &VarMap) -> Result<CandleOptimizer<R, T>, Error> {
        let named = sorted(map);
        if named.is_empty() {
            return Err(Error::NoVariables);
        }
        self.for_source(named, Source::Map(map.clone()))
    }

    /// As [`CandleOptimizer::from_named`].
    ///
    /// # Errors
    ///
    /// As [`CandleOptimizer::from_named`].
    pub fn for_named<N: Into<String>>(
        self,
        variables: impl IntoIterator<Item = (N, Var)>,
    ) -> Result<CandleOptimizer<R, T>, Error> {
        self.for_source(variables, Source::Named)
    }

    pub(crate) fn for_source<N: Into<String>>(
        self,
        variables: impl IntoIterator<Item = (N, Var)>,
        source: Source,
    ) -> Result<CandleOptimizer<R, T>, Error> {
        let engine = self.engine.build()?;
        let named = variables.into_iter().map(|(name, var)| (name.into(), var));
        let variables = Variables::new::<T>(named, self.placement)?.with_source(source);
        engine.check_names(variables.as_slice().iter().map(|named| named.name.as_str()))?;
        Ok(CandleOptimizer { engine, variables, learning_rate: None, copies: Copies::default() })
    }
}

impl<R: UpdateRule<f32>> CandleOptimizer<R> {
    /// An optimizer of all variables of a map, under their names. Make the model first: it adds its variables to the
    /// map. If the map gets another one later, steps are refused with [`Error::NewVariable`].
    ///
    /// # Errors
    ///
    /// When an option of the builder is out of range; [`Error::NoVariables`]; as [`from_named`](Self::from_named).
    pub fn from_varmap(map: &VarMap, builder: OptimizerBuilder<R>) -> Result<Self, Error> {
        CandleBuilder::new(builder).for_varmap(map)
    }

    /// An optimizer of variables, each with its name. Checkpoints and groups know variables by their names.
    ///
    /// # Errors
    ///
    /// When an option of the builder is out of range; when a name is used twice or one variable has two names; when a
    /// variable has a type that cannot be trained, or is not on the CPU.
    pub fn from_named<N: Into<String>>(
        variables: impl IntoIterator<Item = (N, Var)>,
        builder: OptimizerBuilder<R>,
    ) -> Result<Self, Error> {
        CandleBuilder::new(builder).for_named(variables)
    }
}
