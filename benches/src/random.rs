//! Random numbers to fill tensors with.

/// G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", 2014: `SplitMix64`.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Always the same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Between 0.01 and 1 in size, of either sign.
    pub fn signed(&mut self) -> f64 {
        let bits = self.next();
        let size = 0.01 + 0.99 * ((bits >> 11) as f64 / (1_u64 << 53) as f64);
        if bits & 1 == 0 { size } else { -size }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
