//! The operations that round to 16 bits, and the random numbers for these.

use crate::master::Master;
use crate::moments::{MAX_PACKED, MomentStorage};
use crate::precision::extended::{self, Extended};
use crate::precision::stochastic::{self, Noise};

/// What is done with a variable in 16 bits, and with its [`Master`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Narrow {
    /// a, rounded to nearest, ties to even. (b is a, too.)
    Nearest,
    /// The master a of the variable b in full; b if a is not rounded to b, because the caller has changed the variable.
    Current,
    /// The master in 24 bits of the variable a and its correction b.
    Join,
    /// The variable of the master a, which is rounded to 24 bits by the random number b.
    Part,
    /// The correction of the master a, which is rounded to 24 bits by the random number b.
    Correction,
    /// The variable a without a master, rounded by the random number b.
    Alone,
}

/// The random numbers by which numbers of a variable are rounded in one step.
///
/// [`Array::Random`](super::Array::Random) of a number below [`MASTER`](Self::MASTER) are for moments: for the first slot
/// in fewer bits, the second one, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Draws {
    /// What all variables have in common in this step: for moments, and for masters.
    pub step: [u64; 2],
    /// The variable.
    pub variable: u64,
}

impl Narrow {
    /// The name of the function in programs, and whether it takes b.
    #[must_use]
    pub fn function(self) -> (&'static str, bool) {
        match self {
            Self::Nearest => ("nearest_number", false),
            Self::Current => ("current_master", true),
            Self::Join => ("joined_master", true),
            Self::Part => ("part_of_master", true),
            Self::Correction => ("correction_of_master", true),
            Self::Alone => ("rounded_alone", true),
        }
    }

    /// The result for a type of 16 bits. It is a number of that type, or a master.
    pub(super) fn apply<H: Extended>(self, a: f32, b: f32) -> f32 {
        match self {
            Self::Nearest => H::nearest(a).wide(),
            Self::Current if H::nearest(a).pattern() == H::nearest(b).pattern() => a,
            Self::Current => b,
            Self::Join => extended::joined(H::nearest(a), b as i8),
            Self::Part => extended::parted::<H>(a, b as u32).0.wide(),
            Self::Correction => f32::from(extended::parted::<H>(a, b as u32).1),
            Self::Alone => extended::alone::<H>(a, b as u32).wide(),
        }
    }
}

impl Draws {
    /// The number of [`Array::Random`](super::Array::Random) for masters.
    pub const MASTER: u8 = MAX_PACKED as u8;

    /// The random numbers of a variable in the step after `step` others.
    pub(crate) fn new(moments: MomentStorage, master: Master, step: u64, variable: &str) -> Self {
        let of_moments = match moments {
            MomentStorage::Full => 0,
            MomentStorage::Bf16 { seed } | MomentStorage::Float8 { seed } => stochastic::of_step(seed, step),
        };
        let of_master = match master {
            Master::Full => 0,
            Master::Bits24 { seed } | Master::None { seed } => stochastic::of_step(stochastic::of_master(seed), step),
        };
        Self { step: [of_moments, of_master], variable: stochastic::hash(variable) }
    }

    /// The random number for an element, by its place in the variable, row by row: 0 to 65,535.
    #[must_use]
    pub fn number(&self, random: u8, place: usize) -> u32 {
        let is_master = random == Self::MASTER;
        let sequences = Noise::of_variable(self.step[usize::from(is_master)], self.variable).at(place);
        sequences.bits(if is_master { 0 } else { usize::from(random) }, 0)
    }

    /// Three pairs of numbers, from which a kernel makes the random numbers of the elements from `place` on: for the
    /// first two slots, for the other two slots, for masters. With `a` and `b` a pair, `i` the distance from `place`,
    /// and all in 32 bits:
    ///
    /// ```text
    /// x = (a + i) ^ b
    /// x = (x ^ (x >> 16)) * 0x7feb352d
    /// x = (x ^ (x >> 15)) * 0x846ca68b
    /// x = x ^ (x >> 16)
    /// ```
    ///
    /// The first slot of a pair and masters have the upper 16 bits, the second slot has the others. The pairs are those
    /// of the elements up to the next multiple of 2^32.
    #[must_use]
    pub fn pairs(&self, place: usize) -> [[u32; 2]; 3] {
        let [moments, master] = self.step.map(|step| Noise::of_variable(step, self.variable).at(place));
        [moments.pair(0), moments.pair(1), master.pair(0)]
    }
}
