//! The conformance suite that every optimizer must pass.
//!
//! * [`forms`]: optimizers of many forms, to record steps of.
//! * [`golden`] and [`replay()`]: recorded runs of the reference systems, replayed end to end from their
//!   configurations.
//! * [`halves`]: recorded steps of variables in 16 bits.
//! * [`laws`]: properties of every rule, checked on generated [problems](problem).
//! * [`recording`]: the numbers that recorded steps are compared with.
//! * [`textbook`]: an oracle, the formulas as naive loops in 64 bits that share no code with the engine.
//!
//! [`conformance!`] runs the recorded runs and the laws for a rule crate.

#![forbid(unsafe_code)]

pub mod forms;
pub mod golden;
pub mod halves;
pub mod laws;
pub mod problem;
pub mod recording;
pub mod replay;
pub mod tensors;
pub mod textbook;

use std::path::{Path, PathBuf};

use replay::Registries;
pub use replay::{Verdict, replay, replay_on};

/// All our rules and schedules, for both element types.
///
/// The test programs also get the compiled engine and the compiled loops of the rules from here: at the optimization
/// level of tests, crates that depend on this one use the generic code that it has compiled for a type.
#[must_use]
pub fn registries() -> Registries {
    Registries { float32: optimizers::registry(), float64: optimizers::registry() }
}

/// The folder of recorded runs in this workspace.
#[must_use]
pub fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// Runs the conformance suite for a rule: one test for each law and each variant of the rule, and one for recorded
/// runs.
///
/// A law that does not hold is listed as an exception, with the reason. An exception is a test, too, which fails as
/// soon as the law holds for every variant.
///
/// ```text
/// conformance! {
///     class: Nadam,
///     variants: { reference: Nadam::new(0.1), keras: Nadam::keras(0.1) },
///     golden: ["nadam.json"],
///     laws: all, except: { finite_stays_finite: "v holds squares, and they can be infinite" },
/// }
/// ```
#[macro_export]
macro_rules! conformance {
    (class: $class:ty, variants: $variants:tt, golden: $files:tt, laws: all $(,)?) => {
        $crate::conformance!(@recorded $class, $files);
        $crate::conformance!(@variants $variants, {});
    };
    (class: $class:ty, variants: $variants:tt, golden: $files:tt, laws: all, except: $exceptions:tt $(,)?) => {
        $crate::conformance!(@recorded $class, $files);
        $crate::conformance!(@variants $variants, $exceptions);
        $crate::conformance!(@exceptions $variants, $exceptions);
    };
    (@recorded $class:ty, [$($file:literal),* $(,)?]) => {
        #[test]
        fn recorded_runs() {
            $($crate::replay::all_pass::<$class>($file);)*
        }
    };
    (@variants { $($variant:ident: $rule:expr),+ $(,)? }, $exceptions:tt) => {
        $(mod $variant {
            use super::*;

            pub(super) fn subject() -> $crate::laws::Subject {
                $crate::laws::Subject::new(&$rule)
            }

            $crate::conformance!(@laws ($), $exceptions);
        })+
    };
    // `$d` is a dollar sign, for the macro inside. The first arms of that macro match the exceptions, and expand to
    // nothing.
    (@laws ($d:tt), { $($law:ident: $reason:literal),* $(,)? }) => {
        macro_rules! law {
            $(($law) => {};)*
            ($d law:ident) => {
                #[test]
                fn $d law() {
                    $crate::laws::holds($crate::laws::$d law, &subject());
                }
            };
        }
        law!(a_step_in_phases_is_a_step);
        law!(accumulated_gradients_are_their_mean);
        law!(borrowed_slots_are_slots);
        law!(configurations_come_back);
        law!(duplicate_rows_are_summed);
        law!(equal_groups_are_no_groups);
        law!(f32_follows_f64);
        law!(finite_stays_finite);
        law!(frozen_groups_are_left_out);
        law!(full_sparse_gradients_are_dense);
        law!(missing_gradients_leave_alone);
        law!(order_does_not_matter);
        law!(powers_of_two_scale_nothing);
        law!(recorded_steps_are_steps);
        law!(rejected_steps_leave_no_trace);
        law!(restoring_continues);
        law!(scattered_memory_does_not_matter);
        law!(skipped_steps_leave_no_trace);
        law!(splitting_changes_nothing);
        law!(state_cannot_be_forgotten);
        law!(state_is_as_declared);
        law!(threads_do_not_matter);
        law!(transposed_memory_does_not_matter);
    };
    (@exceptions { $($variant:ident: $rule:expr),+ $(,)? }, { $($law:ident: $reason:literal),+ $(,)? }) => {
        mod exceptions {
            fn subjects() -> impl Iterator<Item = $crate::laws::Subject> {
                [$(super::$variant::subject),+].into_iter().map(|subject| subject())
            }

            $(#[test]
            fn $law() {
                $crate::laws::is_excepted($crate::laws::$law, $reason, subjects());
            })+
        }
    };
}
