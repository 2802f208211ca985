//! The option for the storage of moments.

/// How the moments of a rule (velocities, averages of gradients and of their squares) are stored.
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
    /// A number between two numbers of bfloat16 becomes one of them. The probabilities make the rounding right on
    /// average, so that changes that are small against a moment are not lost. The rounding is a function of the seed,
    /// the step, the name of the variable and the place of the element: it gives the same bits for any number of
    /// threads, and after a restart. On a device mesh, the place is the place in the shard.
    ///
    /// [`Optimizer::set_weights`](crate::Optimizer::set_weights) takes numbers in full precision and rounds them to
    /// nearest.
    Bf16 {
        /// The seed of the roundings.
        seed: u64,
    },
    /// As floating-point numbers of 8 bits, in groups of 32 that share a power of two, with stochastic rounding;
    /// arithmetic stays in 32 bits. Only for variables of 32 bits.
    ///
    /// First moments have a sign, 4 bits of exponent and 3 of mantissa; second moments, which are not negative, have 5
    /// bits of exponent and 3 of mantissa. So all numbers of a group keep 4 significant bits, as long as first moments
    /// are above 1/16,384 of the largest one of their group, and second moments above 1/1,073,741,824. Much smaller
    /// first moments become 0; second moments above 0 stay above 0, because the rule divides by their root. (Numbers
    /// below the smallest normal one are 0.) A number that is infinite or NaN stays so; the others of its group then
    /// become powers of two or of four.
    ///
    /// Groups are every 16th of 512 elements that follow each other, row by row. On a device mesh, they are those of
    /// the shard. A step with a sparse gradient rounds all elements again that are in the same 512 as a row of it. The
    /// rounding depends on the same things as that of [`Bf16`](Self::Bf16). Each number is also a number of bfloat16,
    /// in which the state is shown and saved; a checkpoint restores it bit for bit.
    Float8 {
        /// The seed of the roundings.
        seed: u64,
    },
}

/// The largest number of slots in fewer bits that a rule may have, including the rules that it wraps.
pub(crate) const MAX_PACKED: usize = 4;
