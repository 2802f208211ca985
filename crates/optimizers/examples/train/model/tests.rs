//! The gradients against finite differences of a second network, written as loops in f64.

use ndarray::array;
use optimizers::{Gradients, Parameters};

use super::*;
use crate::digits::Digits;

/// All weights of a model, one after the other.
fn flat(model: &mut Mlp) -> Vec<f64> {
    let mut weights = Vec::new();
    let kernels_and_biases = [&model.hidden, &model.output].map(|layer| (&layer.kernel, &layer.bias));
    for (kernel, bias) in kernels_and_biases {
        weights.extend(kernel.iter().chain(bias).map(|&w| f64::from(w)));
    }
    weights
}

/// The loss of a batch, for weights in the order of [`flat`].
fn loss(weights: &[f64], batch: &Images) -> f64 {
    let (hidden, output) = weights.split_at((PIXELS + 1) * HIDDEN);
    let losses = batch.pixels.rows().into_iter().zip(&batch.labels).map(|(pixels, &label)| {
        let x: Vec<f64> = pixels.iter().map(|&x| f64::from(x)).collect();
        let h: Vec<f64> = dense(hidden, &x, HIDDEN).into_iter().map(f64::tanh).collect();
        let z = dense(output, &h, CLASSES);
        z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[label]
    });
    losses.sum::<f64>() / batch.len() as f64
}

fn dense(weights: &[f64], x: &[f64], outputs: usize) -> Vec<f64> {
    let (kernel, bias) = weights.split_at(x.len() * outputs);
    (0..outputs).map(|j| bias[j] + (0..x.len()).map(|i| x[i] * kernel[i * outputs + j]).sum::<f64>()).collect()
}

fn batch() -> Images {
    Digits::load().training.pick(&[0, 1, 2, 3, 4, 5, 6])
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    const H: f64 = 1e-5;
    let batch = batch();
    let mut model: Mlp = Mlp::new(&mut Random::new(1));
    let weights = flat(&mut model);
    let gradients = flat(&mut model.gradients(&batch, 1.0));
    assert_eq!(gradients.len(), (PIXELS + 1) * HIDDEN + (HIDDEN + 1) * CLASSES);
    let largest = gradients.iter().fold(0.0, |a: f64, g| a.max(g.abs()));
    for (i, &gradient) in gradients.iter().enumerate() {
        let at = |shift: f64| {
            let mut moved = weights.clone();
            moved[i] += shift;
            loss(&moved, &batch)
        };
        let slope = (at(H) - at(-H)) / (2.0 * H);
        // Sums of at most 64 numbers in f32.
        let close = (gradient - slope).abs() <= 64.0 * f64::from(f32::EPSILON) * largest;
        assert!(close, "weight {i}: gradient {gradient}, slope {slope}");
    }
}

#[test]
fn both_networks_have_the_same_loss() {
    let batch = batch();
    let mut model: Mlp = Mlp::new(&mut Random::new(2));
    let (found, expected) = (model.evaluate(&batch).loss, loss(&flat(&mut model), &batch));
    let close = (found - expected).abs() <= 64.0 * f64::from(f32::EPSILON) * expected;
    assert!(close, "{found} and {expected}");
}

#[test]
fn every_variable_has_a_gradient() {
    let mut model: Mlp = Mlp::new(&mut Random::new(3));
    let gradients = model.gradients(&batch(), 1.0);
    let variables: Vec<String> =
        model.variables().iter().map(|v: &optimizers::Variable<f32>| v.name().to_owned()).collect();
    let names: Vec<String> = Gradients::<f32>::gradients(&gradients).into_iter().map(|(name, _)| name).collect();
    assert_eq!(variables, ["hidden.kernel", "hidden.bias", "output.kernel", "output.bias"]);
    assert_eq!(variables, names);
}

#[test]
fn a_model_of_nan_or_zeros_recognises_nothing() {
    let mut model: Mlp = Mlp::new(&mut Random::new(4));
    model.output.kernel.fill(0.0);
    assert_eq!(model.evaluate(&batch()).accuracy, 0.0);
    model.output.bias.fill(f32::NAN);
    let evaluation = model.evaluate(&batch());
    assert!(evaluation.loss.is_nan());
    assert_eq!(evaluation.accuracy, 0.0);
}

#[test]
fn large_logits_do_not_overflow() {
    let scores = log_softmax(&array![[1e30, 0.0], [-1e30, -1e30]]);
    assert_eq!(scores.row(0), array![0.0, -1e30]);
    let close = (scores[[1, 0]] + std::f32::consts::LN_2).abs() <= f32::EPSILON;
    assert!(close, "{scores}");
}
