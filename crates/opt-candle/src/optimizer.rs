//! The optimizer of candle's variables.

use candle_core::Var;
use candle_core::backprop::GradStore;
use opt_core::{Optimizer, UpdateRule};

use crate::copies::Copies;
use crate::element::Element;
use crate::variables::Variables;

/// An optimizer of candle's variables, which it updates in place.
///
/// `R` is the rule. `T` is the element type of the state: variables in `f32`, `bf16` and `f16` belong to `f32`, the
/// default, variables in `f64` to `f64`. A variable in 16 bits has a [master](opt_core::Variable::half) in 32 bits.
///
/// It implements `candle_nn::Optimizer`, so that functions which are generic over candle's optimizers take it. The
/// trait has no names, so its constructor numbers the variables: use [`from_varmap`](Self::from_varmap) or
/// [`from_named`](Self::from_named).
///
/// # Examples
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use candle_nn::{VarBuilder, VarMap, linear, loss};
/// use opt_candle::CandleOptimizer;
/// use optimizers::{AdamW, Optimizer};
///
/// let varmap = VarMap::new();
/// let model = linear(2, 1, VarBuilder::from_varmap(&varmap, DType::F32, &Device::Cpu))?;
/// let mut opt = CandleOptimizer::from_varmap(&varmap, Optimizer::builder(AdamW::pytorch(0.1)).global_clipnorm(1.0))?;
///
/// let inputs = Tensor::new(&[[0.0_f32, 1.0], [1.0, 0.0]], &Device::Cpu)?;
/// let targets = Tensor::new(&[[1.0_f32], [2.0]], &Device::Cpu)?;
/// for _ in 0..200 {
///     opt.backward_step(&loss::mse(&model.forward(&inputs)?, &targets)?)?;
/// }
/// assert!(loss::mse(&model.forward(&inputs)?, &targets)?.to_scalar::<f32>()? < 0.01);
/// # Ok::<(), opt_candle::Error>(())
/// ```
#[derive(Debug)]
pub struct CandleOptimizer<R, T = f32> {
    pub(crate) engine: Optimizer<R, T>,
    pub(crate) variables: Variables,
    /// The rate that was set through candle's trait.
    pub(crate) learning_rate: Option<f64>,
    pub(crate) copies: Copies,
}

impl<R: UpdateRule<T>, T: Element> CandleOptimizer<R, T> {
    /// The engine: its counter, its slots, its learning rate.
    #[must_use]
    pub fn engine(&self) -> &Optimizer<R, T> {
        &self.engine
    }

    /// The engine, to change: a new schedule, frozen groups, discarded gradients. A rate that was set through candle's
    /// trait stays in force: [`clear_learning_rate`](Self::clear_learning_rate).
    #[must_use]
    pub fn engine_mut(&mut self) -> &mut Optimizer<R, T> {
        &mut self.engine
    }

    /// Forgets a rate that was set through candle's trait: the next step has the rate of the rule or its schedule
    /// again.
    ///
    /// # Examples
    ///
    /// ```
    /// use candle_core::{Device, Var};
    /// use candle_nn::Optimizer as _;
    /// use opt_candle::CandleOptimizer;
    /// use optimizers::schedules::CosineDecay;
    /// use optimizers::{Optimizer, Sgd};
    ///
    /// let w = Var::new(1.0_f32, &Device::Cpu)?;
    /// let builder = Optimizer::builder(Sgd::new(CosineDecay::new(0.5, 10)));
    /// let mut opt = CandleOptimizer::from_named([("w", w)], builder)?;
    /// opt.set_learning_rate(0.25);
    /// assert_eq!(opt.learning_rate(), 0.25);
    /// opt.clear_learning_rate();
    /// assert_eq!(opt.learning_rate(), 0.5);
    /// # Ok::<(), opt_candle::Error>(())
    /// ```
    pub fn clear_learning_rate(&mut self) {
        self.learning_rate = None;
    }

    /// The variables, each with its name, in the order of the engine.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.variables.as_slice().iter().map(|named| (named.name.as_str(), &named.var))
    }

    /// The names of the variables that have no gradient: a step does not change them.
    ///
    /// Print them once after the first `backward` of a new model. Some layers of candle stop gradients without a word,
    /// such as the `forward` of `LayerNorm` and `RmsNorm`, which has no backward pass (`RmsNorm::forward_diff` has).
    ///
    /// # Examples
    ///
    /// ```
    /// use candle_core::{Device, Tensor, Var};
    /// use opt_candle::CandleOptimizer;
    /// use optimizers::{Optimizer, Sgd};
    ///
    /// let (scale, w) = (Var::new(&[1.0_f32, 1.0], &Device::Cpu)?, Var::new(&[1.0_f32, 2.0], &Device::Cpu)?);
    /// let named = [("scale", scale.clone()), ("w", w.clone())];
    /// let opt = CandleOptimizer::from_named(named, Optimizer::builder(Sgd::new(0.5)))?;
    ///
    /// let norm = candle_nn::ops::rms_norm(&w, &scale, 1e-5)?;
    /// let grads = (norm + w.as_tensor())?.sum_all()?.backward()?;
    /// assert_eq!(opt.without_gradient(&grads).collect::<Vec<_>>(), ["scale"]);
    /// # Ok::<(), opt_candle::Error>(())
    /// ```
    pub fn without_gradient(&self, grads: &GradStore) -> impl Iterator<Item = &str> {
        self.variables().filter(|(_, var)| grads.get(var).is_none()).map(|(name, _)| name)
    }

    /// What the last call had to copy.
    #[must_use]
    pub fn copies(&self) -> Copies {
        self.copies
    }
}
