//! The option that says how the moments of a rule are stored.

/// How the moments of a rule (its velocities and averages of gradients) are stored.
///
/// Slots of other kinds, such as Lookahead's slow weights or AMSGrad's maximum, and averages of variables keep the
/// element type.
///
/// # Examples
///
/// ```
/// use opt_core::{MomentStorage, Optimizer, Variable};
/// use opt_sgd::Sgd;
///
/// let mut w = [1.0_f32; 1000];
/// let rule = Sgd::new(0.1).momentum(0.9);
/// let mut opt = Optimizer::builder(rule).moments(MomentStorage::Bf16 { seed: 7 }).build()?;
/// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.3; 1000])])?;
/// assert_eq!(opt.state_bytes(), 2 * 1000);
/// # Ok::<(), opt_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum MomentStorage {
    /// In the element type of the variables.
    #[default]
    Full,
    /// As bfloat16 with stochastic rounding; arithmetic stays in 32 bits. Only for variables of 32 bits.
    ///
    /// A number between two of bfloat16 becomes one or the other, with a chance that makes it right on average, so that
    /// changes that are small against a moment are not lost. The chance is a function of the seed, the step, the name
    /// of the variable and the place of the element: the same bits for any number of threads, and after a restart. On a
    /// device mesh the place is that in the shard.
    ///
    /// [`Optimizer::set_weights`](crate::Optimizer::set_weights) takes numbers in full and rounds them to nearest.
    Bf16 {
        /// Picks the sequence of roundings.
        seed: u64,
    },
}

/// How many slots of moments a rule, with everything it wraps, may have in 16 bits.
pub(crate) const MAX_PACKED: usize = 4;
