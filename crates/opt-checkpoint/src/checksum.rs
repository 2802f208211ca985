//! Checksums: XXH3, 64 bits.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::Xxh3Default;

/// A checksum of 64 bits (XXH3), written as 16 hexadecimal digits.
///
/// It detects accidents, not forgeries: an accidental change goes undetected once in 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Checksum(pub(crate) u64);

impl Checksum {
    /// Digits of its text.
    pub(crate) const DIGITS: usize = 16;

    /// Its text.
    pub(crate) fn digits(self) -> [u8; Self::DIGITS] {
        std::array::from_fn(|place| b"0123456789abcdef"[(self.0 >> (60 - 4 * place)) as usize & 15])
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(bytes))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The text is not 16 hexadecimal digits in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a checksum is 16 hexadecimal digits in lower case")]
pub struct NotAChecksum;

impl FromStr for Checksum {
    type Err = NotAChecksum;

    fn from_str(text: &str) -> Result<Self, NotAChecksum> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != Self::DIGITS || !text.bytes().all(is_digit) {
            return Err(NotAChecksum);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NotAChecksum)
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A checksum of bytes that arrive in pieces.
pub(crate) struct Summer(Xxh3Default);

impl Summer {
    pub(crate) fn new() -> Self {
        Self(Xxh3Default::new())
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn sum(&self) -> Checksum {
        Checksum(self.0.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_reference_implementation() {
        assert_eq!(Checksum::of(b"").to_string(), "2d06800538d394c2");
        assert_eq!(Checksum::of(b"abc").to_string(), "78af5f94892f3950");
    }

    #[test]
    fn pieces_do_not_matter() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|i| (i * i) as u8).collect();
        for size in [1, 7, 256, 1_000, 10_000] {
            let mut summer = Summer::new();
            bytes.chunks(size).for_each(|piece| summer.add(piece));
            assert_eq!(summer.sum(), Checksum::of(&bytes), "pieces of {size}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        assert_eq!("00000000000000ff".parse(), Ok(Checksum(255)));
        let many = Checksum(0x0123_4567_89ab_cdef);
        assert_eq!((&many.digits()[..], many.to_string()), (&b"0123456789abcdef"[..], "0123456789abcdef".to_owned()));
        for text in ["", "ff", "00000000000000FF", "+0000000000000ff", "00000000000000ff0", "é000000000000ff"] {
            assert_eq!(text.parse::<Checksum>(), Err(NotAChecksum), "{text}");
        }
    }
}
