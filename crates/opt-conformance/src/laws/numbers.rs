//! The laws of numbers: rounding errors, and no infinity or NaN.

use opt_core::Scalar;

use super::{Broken, Setting, Stage, Subject, for_all};
use crate::problem::{Gradient, Problem};

/// A run in 32 bits stays as close to the run in 64 bits as rounding allows.
///
/// Each step rounds a few times, each time by at most half an ulp of the largest magnitude so far in the step.
///
/// # Errors
///
/// When the law does not hold.
pub fn f32_follows_f64(rule: &Subject) -> Result<(), Broken> {
    /// The roundings of an element in a step, with room for all stages.
    const ROUNDINGS: f64 = 16.0;
    for stage in Stage::ALL {
        let law = "f32_follows_f64";
        let in_32_bits = Setting { law, rule: &rule.in_32_bits, stage };
        let in_64_bits = Setting { law, rule: &rule.in_64_bits, stage };
        let problem = Problem::varied(12, 12);
        let (mut narrow, mut wide) = (in_32_bits.optimizer()?, in_64_bits.optimizer()?);
        let (mut got, mut want) = (problem.start::<f32>(), problem.start::<f64>());
        for number in 0..problem.steps.len() {
            in_32_bits.step(&problem, number, &mut narrow, &mut got)?;
            in_64_bits.step(&problem, number, &mut wide, &mut want)?;
            for ((name, got), (_, want)) in got.0.iter().zip(&want.0) {
                let magnitude = want.iter().fold(1.0_f64, |largest, w| largest.max(w.abs()));
                let tolerance = ROUNDINGS * (number + 1) as f64 * magnitude * f64::from(f32::EPSILON) / 2.0;
                let far = got.iter().zip(want).find(|(got, want)| {
                    let close = (f64::from(**got) - **want).abs() <= tolerance;
                    !close
                });
                if let Some((got, want)) = far {
                    let how =
                        format!("step {number}: variable {name:?}: {got} instead of {want}, not within {tolerance:e}");
                    return Err(in_32_bits.broken(how));
                }
            }
        }
    }
    Ok(())
}

/// Gradients from the smallest to very large ones never make a value infinite or NaN.
///
/// # Errors
///
/// When the law does not hold.
pub fn finite_stays_finite(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let mut problem = Problem::dense(13, &[&[4], &[3, 5], &[1]], 8);
        let scales = [1e-45, 1e25, 0.0, 1e-30, 1e18, 1.0, 1e25, 1e-38];
        for (step, scale) in problem.steps.iter_mut().zip(scales) {
            for gradient in step {
                if let Gradient::Dense(gradient) = gradient {
                    *gradient *= scale;
                }
            }
        }
        let (optimizer, variables) = setting.trained(&problem)?;
        if let Some((name, _)) = variables.0.iter().find(|(_, value)| value.iter().any(|w| !w.is_finite())) {
            return Err(setting.broken(format!("variable {name:?} is not finite")));
        }
        for weight in optimizer.weights() {
            if super::state::bits(&weight.value).into_iter().any(|bits| !f64::from_bits(bits).is_finite()) {
                return Err(setting.broken(format!("weight {:?} is not finite", weight.name)));
            }
        }
        Ok(())
    }
    for_all!(rule, Stage::ALL, finite_stays_finite => check);
    Ok(())
}
