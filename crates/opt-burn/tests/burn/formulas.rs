//! Where burn has the same formula, the numbers are the same: through the adapter, and through a rule in burn's own
//! `ModuleOptimizer`.

use burn_core::tensor::{Device, Tensor, TensorData};
use burn_optim::decay::WeightDecayConfig;
use burn_optim::momentum::MomentumConfig;
use burn_optim::{AdamConfig, AdamWConfig, ModuleOptimizer, SgdConfig};
use opt_burn::Rule;
use optimizers::{Adam, AdamW, Sgd, UpdateRule};

use crate::support::{Given, Vector, assert_close, device, numbers, plain, randoms};

const LENGTH: usize = 37;
const STEPS: u64 = 25;

/// The numbers after some steps with gradients that are given.
fn run(mut step: impl FnMut(u64, Vector, Tensor<1>) -> Vector) -> Vec<f32> {
    let mut param = Vector::from_data(TensorData::new(randoms(LENGTH, 1), [LENGTH]), &device());
    for iteration in 0..STEPS {
        let gradient = TensorData::new(randoms(LENGTH, 2 + iteration), [LENGTH]);
        param = step(iteration, param, Tensor::from_data(gradient, &Device::flex()));
    }
    numbers(&param)
}

/// A rate that burn hands in.
fn rate(iteration: u64) -> f64 {
    0.05 / (1.0 + iteration as f64)
}

fn run_in_burn(mut optim: ModuleOptimizer) -> Vec<f32> {
    run(|iteration, param, gradient| {
        let given = Given::default().with(param.id, gradient);
        optim.step(rate(iteration), param, given.0)
    })
}

#[track_caller]
fn assert_same<R: UpdateRule<f32> + Clone + 'static>(burns: ModuleOptimizer, rule: R) {
    let want = run_in_burn(burns);
    let mut optim = plain(rule.clone());
    let whole = run(|iteration, param, gradient| {
        let given = Given::default().with(param.id, gradient);
        optim.step(rate(iteration), param, given.0).unwrap().module
    });
    assert_close(&whole, &want);
    assert_close(&run_in_burn(Rule::new(rule).unwrap().init()), &want);
}

#[test]
fn plain_sgd() {
    assert_same(SgdConfig::new().init(), Sgd::pytorch(0.0));
}

#[test]
fn sgd_with_momentum_and_decay() {
    let config = |nesterov, dampening| {
        let momentum = MomentumConfig::new().with_momentum(0.8).with_dampening(dampening).with_nesterov(nesterov);
        let decay = WeightDecayConfig { penalty: 0.3 };
        SgdConfig::new().with_momentum(Some(momentum)).with_weight_decay(Some(decay)).init()
    };
    let rule = Sgd::pytorch(0.0).momentum(0.8).weight_decay(0.3);
    assert_same(config(false, 0.25), rule.clone().dampening(0.25));
    assert_same(config(true, 0.0), rule.nesterov(true));
}

#[test]
fn adam() {
    let config = AdamConfig::new().with_beta_1(0.8).with_beta_2(0.95).with_epsilon(1e-3);
    assert_same(config.init(), Adam::pytorch(0.0).beta_1(0.8).beta_2(0.95).epsilon(1e-3));
}

#[test]
fn adamw() {
    let config = AdamWConfig::new().with_weight_decay(0.4).with_epsilon(1e-3);
    let want = run_in_burn(config.init());
    let rule = AdamW::pytorch(0.0).epsilon(1e-3);
    let ours = Rule::new(rule).unwrap().weight_decay(0.4).unwrap();
    assert_close(&run_in_burn(ours.init()), &want);
}

#[test]
fn a_rule_brings_its_own_decay() {
    let config = AdamWConfig::new().with_weight_decay(0.01).with_epsilon(1e-3);
    assert_same(config.init(), AdamW::pytorch(0.0).epsilon(1e-3));
}
