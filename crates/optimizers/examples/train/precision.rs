//! Mixed precision: a model in float16, whose optimizer works in 32 bits.

use half::f16;

use crate::model::Element;

/// The type of a model's variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    F32,
    /// Float16: numbers below 6e-8 vanish, and those above 65,504 are infinite.
    F16,
}

impl Element for f16 {
    fn round(number: f32) -> Self {
        Self::from_f32(number)
    }

    fn widen(self) -> f32 {
        self.to_f32()
    }
}

#[cfg(test)]
mod tests {
    use optimizers::model::AnyArray;
    use optimizers::{LossScale, Optimizer, Parameters, Sgd};

    use super::*;
    use crate::digits::Digits;
    use crate::model::Mlp;
    use crate::random::Random;
    use crate::training::Session;

    /// The first scale of [`LossScale::dynamic`].
    const SCALE: f64 = 32_768.0;

    /// After 30 epochs with momentum.
    fn trained(scale: LossScale, digits: &Digits) -> Session<f16> {
        let builder = Optimizer::builder(Sgd::new(0.1).momentum(0.9)).boxed();
        let mut session = Session::new(builder.loss_scale(scale).build().unwrap(), digits, 1);
        for _ in 0..30 {
            session.train_epoch(digits, &mut Vec::new()).unwrap();
        }
        session
    }

    /// All numbers of a model, or of its gradients, one after the other.
    fn flat<E: Element>(model: &Mlp<E>) -> Vec<f64> {
        let arrays = model.arrays().unwrap().into_iter();
        let numbers = arrays.flat_map(|(_, array)| match array {
            AnyArray::Full(array) => array.iter().map(|&number: &f32| f64::from(number)).collect::<Vec<_>>(),
            AnyArray::Bf16(array) => array.iter().map(|&number| f64::from(number)).collect(),
            AnyArray::F16(array) => array.iter().map(|&number| f64::from(number)).collect(),
        });
        numbers.collect()
    }

    #[test]
    fn gradients_are_those_of_32_bits_but_for_rounding() {
        let batch = Digits::load().training.pick(&[0, 1, 2, 3, 4, 5, 6]);
        let expected = flat(&Mlp::<f32>::new(&mut Random::new(1)).gradients(&batch, 1.0));
        let found = flat(&Mlp::<f16>::new(&mut Random::new(1)).gradients(&batch, SCALE));
        let largest = expected.iter().fold(0.0, |a: f64, g| a.max(g.abs()));
        assert_eq!(expected.len(), found.len());
        for (i, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            let found = found / SCALE;
            // Weights, layers and gradients are rounded. The largest error that was measured is half of this.
            let close = (found - expected).abs() <= f64::from(f16::EPSILON) * largest;
            assert!(close, "weight {i}: {found} and {expected}");
        }
    }

    #[test]
    fn a_scale_that_is_too_large_falls_and_the_training_succeeds() {
        let digits = Digits::load();
        let initial = 2_f64.powi(24);
        let batch = digits.training.pick(&[0, 1, 2]);
        let overflown = flat(&Mlp::<f16>::new(&mut Random::new(1)).gradients(&batch, initial));
        assert!(overflown.iter().any(|gradient| !gradient.is_finite()));

        let session = trained(LossScale::dynamic().initial(initial), &digits);
        let steps = session.epochs.len() as u64 - 1;
        let halvings = (initial / session.optimizer.loss_scale()).log2();
        assert!(halvings >= 1.0, "the scale is still {}", session.optimizer.loss_scale());
        assert_eq!(session.optimizer.iterations() + halvings as u64, 45 * steps, "each halving is a skipped step");
        assert!(session.epochs[30].test_accuracy >= 0.95, "{:?}", session.epochs[30]);
        assert!(flat(&session.model).iter().all(|weight| weight.is_finite()));
    }

    /// This network learns without a scale, too: the gradients that vanish are its smallest.
    #[test]
    fn small_gradients_vanish_without_a_scale() {
        let digits = Digits::load();
        let model = trained(LossScale::dynamic(), &digits).model;
        let [plain, scaled] = [1.0, SCALE].map(|scale| flat(&model.gradients(&digits.training, scale)));
        let vanished = plain.iter().zip(&scaled).filter(|&(&plain, &scaled)| plain == 0.0 && scaled != 0.0).count();
        let lost = scaled.iter().zip(&plain).filter(|&(&scaled, &plain)| scaled == 0.0 && plain != 0.0).count();
        assert!(vanished >= 20, "{vanished} of {}", plain.len());
        assert_eq!(lost, 0);
    }
}
