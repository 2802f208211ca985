//! What every optimizer has to do.
//!
//! * [`golden`] and [`replay()`]: recorded runs of the reference systems, end to end from their configurations.
//! * [`laws`]: what holds for every rule, checked on made-up [problems](problem).
//! * [`textbook`]: the formulas once more, as naive loops in 64 bits that share no code with the engine.
//!
//! [`conformance!`] runs the first two for a rule crate.

#![forbid(unsafe_code)]

pub mod golden;
pub mod laws;
pub mod problem;
pub mod replay;
pub mod textbook;

use std::path::{Path, PathBuf};

pub use replay::{Verdict, replay, replay_on};

/// The folder of recorded runs in this workspace.
#[must_use]
pub fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// Runs the conformance suite for a rule: a test for each law and each variant of the rule, and one for recorded runs.
///
/// A law that does not hold for a rule is left out of the list, with a reason.
///
/// ```text
/// conformance! {
///     class: Sgd,
///     variants: { plain: Sgd::new(0.1), momentum: Sgd::new(0.1).momentum(0.9) },
///     golden: ["sgd.json"],
///     laws: [restoring_continues, threads_do_not_matter],
/// }
/// ```
#[macro_export]
macro_rules! conformance {
    (
        class: $class:ty,
        variants: { $($variant:ident: $rule:expr),+ $(,)? },
        golden: [$($file:literal),* $(,)?],
        laws: $laws:tt $(,)?
    ) => {
        #[test]
        fn recorded_runs() {
            $($crate::replay::all_pass::<$class>($file);)*
        }

        $(mod $variant {
            use super::*;
            $crate::conformance!(@laws $rule, $laws);
        })+
    };
    (@laws $rule:expr, [$($law:ident),* $(,)?]) => {
        $(#[test]
        fn $law() {
            if let Err(broken) = $crate::laws::$law(&$rule) {
                panic!("{broken}");
            }
        })*
    };
}
