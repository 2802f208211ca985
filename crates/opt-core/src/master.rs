//! The option for the masters of variables in 16 bits.

/// How much more than a variable in [16 bits](crate::Variable::half) the optimizer remembers of it.
///
/// Steps are small against a variable: most of them are less than a unit in its last place, and would be lost if each
/// result were rounded to nearest. Arithmetic is in 32 bits in all cases, and variables of other types have no master.
///
/// | storage | digits of the master, bf16 / f16 | bytes beside the variable | slot |
/// |---|---|---|---|
/// | [`Full`](Self::Full) | 24 / 24 | 4 | `master` |
/// | [`Bits24`](Self::Bits24) | 16 / 19 | 1 | `correction` |
/// | [`None`](Self::None) | 8 / 11 | 0 | |
///
/// # Examples
///
/// ```
/// use half::bf16;
/// use opt_core::{Master, Optimizer, Variable};
/// use opt_sgd::Sgd;
///
/// let trained = |master: Master| {
///     let mut w = vec![bf16::ONE; 1000];
///     let mut opt = Optimizer::builder(Sgd::new(1e-4)).master(master).build()?;
///     for _ in 0..100 {
///         opt.apply_gradients([Variable::half("w", &mut w).gradient(&[1.0; 1000])])?;
///     }
///     let mean = w.iter().map(|w| w.to_f32()).sum::<f32>() / 1000.0;
///     Ok::<_, opt_core::Error>((opt.state_bytes(), mean))
/// };
/// let [full, bits24, none] = [Master::Full, Master::Bits24 { seed: 1 }, Master::None { seed: 1 }].map(trained);
/// // 0.99 is rounded to the nearest number of bfloat16; without a master, only the mean is right.
/// assert_eq!(full?, (4000, 0.98828125));
/// let (bytes, mean) = bits24?;
/// assert!(bytes == 1000 && (mean - 0.98828125).abs() < 1e-3);
/// let (bytes, mean) = none?;
/// assert!(bytes == 0 && (mean - 0.99).abs() < 1e-3);
/// # Ok::<(), opt_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Master {
    /// A copy in 32 bits. If the caller changes an element, the copy takes the new value.
    #[default]
    Full,
    /// The variable, and 8 bits of the digits that it does not have: a master in 24 bits.
    ///
    /// The slot `correction` has the difference of master and variable, a whole number from -128 to 127, in units of
    /// 1/256 of the distance to the next number of the variable's type. (Exactly: read the variable without its sign as
    /// an integer, multiply by 256, add the correction; these are the first bits of the master, 24 of a number in 32
    /// bits for bfloat16.) The variable is always its master rounded to nearest, ties away from 0. The slot is shown
    /// and saved in bfloat16, which has all of these numbers.
    ///
    /// The master is rounded stochastically, so that steps that are smaller than its last digit are not lost on
    /// average. The rounding depends on the same things as that of [`MomentStorage::Bf16`](crate::MomentStorage::Bf16).
    ///
    /// An element that the caller changes keeps its correction: the next step starts from less than half a unit beside
    /// the new value. [`Optimizer::reset_slots`](crate::Optimizer::reset_slots) of `correction` starts from the value
    /// itself. A variable that is not finite has no correction, so a master that is too large for the variable's type
    /// is infinite, too.
    ///
    /// Units of 1/256 of a variable's last place are those of FlashOptim (Databricks, arXiv:2602.23349), which rounds
    /// them to nearest.
    Bits24 {
        /// The seed of the roundings.
        seed: u64,
    },
    /// Nothing: variables are rounded stochastically, which is right on average. A variable then makes a random walk
    /// around its optimum, of steps of its last digit: losses end higher than with a master.
    None {
        /// The seed of the roundings.
        seed: u64,
    },
}

impl Master {
    /// The names of the slots that only variables in 16 bits have, for each storage that has one.
    pub const SLOTS: [&'static str; 2] = [Self::MASTER, Self::CORRECTION];

    pub(crate) const MASTER: &'static str = "master";
    pub(crate) const CORRECTION: &'static str = "correction";

    /// The name of the slot.
    pub(crate) fn slot(self) -> Option<&'static str> {
        match self {
            Self::Full => Some(Self::MASTER),
            Self::Bits24 { .. } => Some(Self::CORRECTION),
            Self::None { .. } => None,
        }
    }
}
