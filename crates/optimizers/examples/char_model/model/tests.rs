//! The gradients against finite differences of a second network, written as loops in f64.

use optimizers::{Gradients, Parameters};

use super::*;
use crate::text::Text;

const HIDDEN: usize = 5;
const CHARACTERS: usize = 61;

/// All weights of a model, one after the other.
fn flat(model: &Mlp) -> Vec<f64> {
    let layers = [&model.lower, &model.upper, &model.output];
    let dense = layers.into_iter().flat_map(|layer| layer.kernel.iter().chain(&layer.bias));
    model.embedding.iter().chain(dense).map(|&w| f64::from(w)).collect()
}

/// The loss of a batch, for weights in the order of [`flat`].
fn loss(weights: &[f64], batch: &Batch) -> f64 {
    let (embedding, rest) = weights.split_at(CHARACTERS * EMBEDDING);
    let (lower, rest) = rest.split_at((CONTEXT * EMBEDDING + 1) * HIDDEN);
    let (upper, output) = rest.split_at((HIDDEN + 1) * HIDDEN);
    let losses = batch.contexts.rows().into_iter().zip(&batch.next).map(|(context, &next)| {
        let x: Vec<f64> = context.iter().flat_map(|&c| &embedding[c * EMBEDDING..][..EMBEDDING]).copied().collect();
        let h: Vec<f64> = dense(lower, &x, HIDDEN).into_iter().map(f64::tanh).collect();
        let u: Vec<f64> = dense(upper, &h, HIDDEN).into_iter().map(f64::tanh).collect();
        let z = dense(output, &u, CHARACTERS);
        z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[next]
    });
    losses.sum::<f64>() / batch.len() as f64
}

fn dense(weights: &[f64], x: &[f64], outputs: usize) -> Vec<f64> {
    let (kernel, bias) = weights.split_at(x.len() * outputs);
    (0..outputs).map(|j| bias[j] + (0..x.len()).map(|i| x[i] * kernel[i * outputs + j]).sum::<f64>()).collect()
}

/// A model with biases, and contexts in which characters stand several times.
fn sample() -> (Mlp, Batch) {
    let text = Text::load();
    let mut random = Random::new(1);
    let mut model = Mlp::new(text.characters.len(), HIDDEN, &mut random);
    for layer in [&mut model.lower, &mut model.upper, &mut model.output] {
        layer.bias.map_inplace(|bias| *bias = random.within(0.5));
    }
    (model, Batch::new(&text.training, &[0, 1, 2, 1_000, 50_000]))
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    const H: f64 = 1e-5;
    let (model, batch) = sample();
    let weights = flat(&model);
    let gradients = flat(&model.gradients(&batch).1);
    assert_eq!(gradients.len(), weights.len());
    let largest = gradients.iter().fold(0.0, |a: f64, g| a.max(g.abs()));
    for (i, &gradient) in gradients.iter().enumerate() {
        let at = |shift: f64| {
            let mut moved = weights.clone();
            moved[i] += shift;
            loss(&moved, &batch)
        };
        let slope = (at(H) - at(-H)) / (2.0 * H);
        // Sums of at most 61 numbers in f32, after sums of 384 numbers that are below 1.
        let close = (gradient - slope).abs() <= 64.0 * f64::from(f32::EPSILON) * largest;
        assert!(close, "weight {i}: gradient {gradient}, slope {slope}");
    }
}

#[test]
fn both_networks_have_the_same_loss() {
    let (model, batch) = sample();
    let expected = loss(&flat(&model), &batch);
    for found in [model.loss(&batch), model.gradients(&batch).0] {
        let close = (found - expected).abs() <= 64.0 * f64::from(f32::EPSILON) * expected;
        assert!(close, "{found} and {expected}");
    }
}

#[test]
fn every_variable_has_a_gradient() {
    let (mut model, batch) = sample();
    let gradients = model.gradients(&batch).1;
    let variables: Vec<String> =
        model.variables().iter().map(|v: &optimizers::Variable<f32>| v.name().to_owned()).collect();
    let names: Vec<String> = Gradients::<f32>::gradients(&gradients).into_iter().map(|(name, _)| name).collect();
    assert_eq!((variables.len(), variables[0].as_str()), (7, "embedding"));
    assert_eq!(variables, names);
}

#[test]
fn probabilities_are_those_of_the_loss() {
    let (model, batch) = sample();
    let context = std::array::from_fn(|i| batch.contexts[[0, i]]);
    let p = model.predict(&context);
    let expected = loss(&flat(&model), &Batch::new(&Text::load().training, &[0]));
    let close = (f64::from(p[batch.next[0]]) - (-expected).exp()).abs() <= 64.0 * f64::from(f32::EPSILON);
    assert!(close && (p.sum() - 1.0).abs() <= 1e-5, "{p}, {expected}");
}
