//! For tests only, not part of the interface: a limit on the instruction sets that loops may use.

use std::sync::atomic::{AtomicU8, Ordering};

use multiversion::multiversion;
use multiversion::target::match_target;

/// Instruction sets that loops are compiled for, narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The instructions that every processor of the architecture has.
    Baseline,
    /// AVX2.
    Avx2,
    /// AVX-512 as `multiversion` defines it: on processors since Ice Lake.
    Avx512,
}

impl Level {
    /// All levels, narrowest first.
    pub const ALL: [Self; 3] = [Self::Baseline, Self::Avx2, Self::Avx512];

    /// Whether loops can be dispatched to this level on this processor.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Baseline => true,
            Self::Avx2 => has_avx2(),
            Self::Avx512 => has_avx512(),
        }
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn has_avx2() -> bool {
    match_target! { "x86_64+avx2+fma" => true, _ => false }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw"))]
fn has_avx512() -> bool {
    match_target! { "x86_64+avx512f+avx512vl+avx512dq+avx512bw" => true, _ => false }
}

static LIMIT: AtomicU8 = AtomicU8::new(Level::Avx512 as u8);

/// One bit for each level.
static RAN: AtomicU8 = AtomicU8::new(0);

/// Limits all loops of the process to this level, from now on.
pub fn limit(level: Level) {
    LIMIT.store(level as u8, Ordering::Relaxed);
}

/// The levels at which any loop has run since the last call.
pub fn take_ran() -> Vec<Level> {
    let ran = RAN.swap(0, Ordering::Relaxed);
    Level::ALL.into_iter().filter(|&level| ran & (1 << level as u8) != 0).collect()
}

pub(crate) fn limited_to() -> Level {
    Level::ALL[usize::from(LIMIT.load(Ordering::Relaxed))]
}

pub(crate) fn note(level: Level) {
    RAN.fetch_or(1 << level as u8, Ordering::Relaxed);
}
