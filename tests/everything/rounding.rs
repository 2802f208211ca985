//! Masters in naive arithmetic: the numbers of a type in 16 bits are counted from 0 on, so a number between two of them
//! is a place that is not whole. A rounding adds a fraction to a place, and takes the whole part.

use half::{bf16, f16};
use opt_conformance::problem::Rng;
use optimizers::Master;

/// A type of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Bf16,
    F16,
}

impl Half {
    /// The binary digits behind the first one.
    fn digits(self) -> i32 {
        match self {
            Self::Bf16 => 7,
            Self::F16 => 10,
        }
    }

    /// The exponent of the smallest normal number.
    fn lowest(self) -> i32 {
        match self {
            Self::Bf16 => -126,
            Self::F16 => -14,
        }
    }

    /// The place of the first magnitude that is not finite.
    fn infinity(self) -> f64 {
        f64::from(match self {
            Self::Bf16 => bf16::INFINITY.to_bits(),
            Self::F16 => f16::INFINITY.to_bits(),
        })
    }

    /// The place of a magnitude.
    fn place(self, x: f64) -> f64 {
        if x.is_infinite() {
            return self.infinity();
        }
        let exponent = (x.log2().floor() as i32).max(self.lowest());
        x / 2.0_f64.powi(exponent - self.digits()) + f64::from((exponent - self.lowest()) << self.digits())
    }

    /// The magnitude at a place.
    fn magnitude(self, place: f64) -> f64 {
        let steps = (place as i32 >> self.digits()).max(1) - 1;
        let exponent = self.lowest() + steps;
        (place - f64::from(steps << self.digits())) * 2.0_f64.powi(exponent - self.digits())
    }

    /// The number with these bits.
    pub(crate) fn number(self, bits: u16) -> f64 {
        match self {
            Self::Bf16 => bf16::from_bits(bits).to_f64(),
            Self::F16 => f16::from_bits(bits).to_f64(),
        }
    }

    /// The number that an update starts from. `kept` is the element of the slot, 0 if there is no slot.
    pub(crate) fn master(self, storage: Master, bits: u16, kept: f64) -> f64 {
        let number = self.number(bits);
        match storage {
            Master::Bits24 { .. } if number.is_finite() => {
                let place = f64::from(bits & 0x7FFF) + kept / 256.0;
                self.magnitude(place.max(0.0)).copysign(number)
            }
            // The caller has changed it, unless it is the master, rounded.
            Master::Full if self.number(self.nearest(kept)).to_bits() == number.to_bits() => kept,
            _ => number,
        }
    }

    /// Rounds to nearest, ties to even.
    fn nearest(self, x: f64) -> u16 {
        self.bits(x, self.place(x.abs()).round_ties_even())
    }

    /// The bits of a number with the sign of `x` at a whole place.
    fn bits(self, x: f64, place: f64) -> u16 {
        let magnitude = if x.is_nan() { f64::from(0x7FFF) } else { place.min(self.infinity()) };
        magnitude as u16 | u16::from(x.is_sign_negative()) << 15
    }

    /// A number in 32 bits as a variable, and the master that the next update starts from. `random` is 16 bits.
    pub(crate) fn rounded(self, storage: Master, x: f64, random: u32) -> (u16, f64) {
        // The steps from a number of this type to the next that 32 bits have. Below the normal numbers of float16 they
        // have more; such a number is rounded to one of these steps first.
        let finest = 2.0_f64.powi(23 - self.digits());
        let place = (self.place(x.abs()) * finest).round_ties_even() / finest;
        // The last random bits, as many as are rounded away.
        let fraction = |finest: f64| f64::from(random) % finest / finest;
        let bits = match storage {
            Master::Full => return (self.nearest(x), x),
            Master::Bits24 { .. } => {
                let place = (place * 256.0 + fraction(finest / 256.0)).floor() / 256.0;
                let whole = (place + 0.5).floor();
                let bits = self.bits(x, whole);
                if self.number(bits).is_finite() {
                    return (bits, self.magnitude(place).copysign(x));
                }
                bits
            }
            // Only what is infinite when it is rounded to nearest becomes infinite.
            _ if (place + 0.5).floor() >= self.infinity() => self.bits(x, self.infinity()),
            _ => self.bits(x, (place + fraction(finest)).floor().min(self.infinity() - 1.0)),
        };
        (bits, self.number(bits))
    }

    /// A number that replaces an element outside a step, rounded to nearest, and the master that the next update starts
    /// from. A master in 24 bits halfway between two others is the larger one.
    pub(crate) fn replaced(self, storage: Master, x: f64) -> (u16, f64) {
        match storage {
            Master::None { .. } => (self.nearest(x), self.number(self.nearest(x))),
            _ => self.rounded(storage, x, 1 << (14 - self.digits())),
        }
    }
}

/// The random bits for all elements of a variable in a step: a hash of the seed, the step, the variable's name (FNV-1a)
/// and the place. A checkpoint resumes bit for bit only if they stay the same.
pub(crate) fn random_bits(seed: u64, step: u64, name: &str) -> impl Fn(usize) -> u32 {
    let mixed = |x: u64| Rng(x).bits();
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    let name = name.bytes().fold(0xCBF2_9CE4_8422_2325, fnv);
    let of_step = mixed(mixed(mixed(seed)).wrapping_add(step));
    let key = mixed(mixed(mixed(of_step.wrapping_add(name))));
    move |element| {
        let x = (key as u32).wrapping_add(element as u32) ^ (key >> 32) as u32;
        let x = (x ^ x >> 16).wrapping_mul(0x7FEB_352D);
        let x = (x ^ x >> 15).wrapping_mul(0x846C_A68B);
        (x ^ x >> 16) >> 16
    }
}
