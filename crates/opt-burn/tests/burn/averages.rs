//! Averages: a second module, while the first one goes on to be trained.

use burn_core::module::Module;
use burn_core::module::Param;
use burn_core::tensor::{DType, Device, Tensor};
use opt_burn::Error;
use optimizers::{Ema, Optimizer, Sgd};

use crate::support::{Given, Network, assert_close, bits, built, gradient, numbers, plain, vector};

#[test]
fn averages_are_those_of_the_values() {
    let mut optim = built(Optimizer::builder(Sgd::new(1.0)).ema(Ema::new(0.75)));
    let (mut module, mut average) = (vec![vector([1.0, -2.0]), vector([5.0])], [1.0, -2.0]);
    for step in 0..6 {
        let grads = gradient(&module[0], [0.5, step as f32]);
        module = optim.step(None, module, grads).unwrap().module;
        for (average, value) in average.iter_mut().zip(numbers(&module[0])) {
            *average = 0.75 * *average + 0.25 * value;
        }
        let before = bits(&module);
        let averaged = optim.averaged(&module).unwrap();
        assert_close(&numbers(&averaged[0]), &average);
        assert_eq!(numbers(&averaged[1]), [5.0]); // it has never had a gradient
        assert_eq!(bits(&module), before);
    }
    assert_eq!(optim.engine().iterations(), 6);
}

#[test]
fn evaluating_averages_changes_nothing() {
    let run = |evaluate: bool| {
        let mut optim = built(Optimizer::builder(Sgd::new(0.1).momentum(0.9)).ema(Ema::new(0.9)));
        let mut network = Network::new(3);
        for step in 0..5 {
            let grads = network.gradients(step);
            network = optim.step(None, network, grads).unwrap().module;
            if evaluate {
                let averaged = optim.averaged(&network).unwrap();
                assert!(averaged.input.weight.val().is_require_grad());
                assert_ne!(bits(&averaged), bits(&network));
                let _ = averaged.valid().loss(7).into_scalar::<f32>();
            }
        }
        bits(&network)
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn averages_of_parameters_in_16_bits_are_rounded() {
    let mut optim = built(Optimizer::builder(Sgd::new(1.0)).ema(Ema::new(0.5)));
    let mut param = Param::from_tensor(Tensor::<1>::ones([3], (&Device::flex(), DType::BF16)));
    for _ in 0..2 {
        let given = Given::default().with(param.id, Tensor::<1>::ones([3], (&Device::flex(), DType::BF16)));
        param = optim.step(None, param, given.0).unwrap().module;
    }
    let averaged = optim.averaged(&param).unwrap();
    assert_eq!((averaged.val().dtype(), numbers(&averaged)), (DType::BF16, vec![-0.25; 3]));
    assert_eq!(numbers(&param), [-1.0; 3]);
    let given = Given::default().with(param.id, Tensor::<1>::ones([3], (&Device::flex(), DType::BF16)));
    assert_eq!(numbers(&optim.step(None, param, given.0).unwrap().module), [-2.0; 3]);
}

#[test]
fn there_must_be_averages() {
    let module = vector([1.0]);
    let error = plain(Sgd::new(1.0)).averaged(&module).unwrap_err();
    assert!(matches!(error, Error::Engine(opt_core::Error::NoAverages)), "{error}");
    let error = built(Optimizer::builder(Sgd::new(1.0)).ema(Ema::new(0.5))).averaged(&module).unwrap_err();
    assert!(matches!(error, Error::Engine(opt_core::Error::UnknownVariable { .. })), "{error}");
}
