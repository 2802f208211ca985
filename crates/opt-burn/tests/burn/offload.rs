//! Parameters on another device than burn's CPU backend `flex`. Here it is burn's other CPU backend.

use burn_core::tensor::{Device, Tensor};
use opt_burn::{BurnOptimizer, Error, ModuleValues, Rule};
use opt_checkpoint::CheckpointDir;
use optimizers::{Ema, Optimizer, Sgd};

use crate::support::{Given, Vector, built, numbers, plain};

fn away() -> Device {
    #[expect(deprecated, reason = "the only backend besides flex that needs no hardware")]
    Device::ndarray().autodiff()
}

fn module() -> Vec<Vector> {
    vec![Vector::from_data([1.0, 2.0], &away()), Vector::from_data([3.0], &away())]
}

fn gradients(module: &[Vector]) -> burn_optim::GradientsParams {
    Given::default().with(module[0].id, Tensor::<1>::from_data([0.5, 1.0], &away().inner())).0
}

#[test]
fn another_device_is_refused_by_name() {
    let module = module();
    let grads = gradients(&module);
    let refused = plain(Sgd::new(1.0)).step(None, module, grads).unwrap_err();
    let Error::Device { parameter, device } = &refused.error else { panic!("{}", refused.error) };
    assert!(parameter == "0" && device.contains("NdArray"), "{parameter} on {device}");
    assert_eq!(numbers(&refused.module[0]), [1.0, 2.0]);
}

#[test]
fn gradients_on_another_device_are_refused() {
    let module = vec![Vector::from_data([1.0, 2.0], &Device::flex().autodiff())];
    let grads = gradients(&module);
    let refused = plain(Sgd::new(1.0)).step(None, module, grads).unwrap_err();
    assert!(matches!(&refused.error, Error::Device { .. }), "{}", refused.error);
}

#[test]
fn an_offloaded_step_copies_and_counts() {
    let mut optim = built(Optimizer::builder(Sgd::new(1.0)).ema(Ema::new(0.5))).offload();
    let mut module = module();
    for turn in 1..=2 {
        let grads = gradients(&module);
        let stepped = optim.step(None, module, grads).unwrap();
        assert_eq!((stepped.copies.offloaded, stepped.copies.tensors(), stepped.copies.bytes), (3, 3, 24));
        module = stepped.module;
        assert_eq!(numbers(&module[0]), [1.0 - 0.5 * turn as f32, 2.0 - turn as f32]);
    }
    let tensor = module[0].val();
    assert!(tensor.device() == away() && tensor.is_autodiff() && tensor.is_require_grad());
    let averaged = optim.averaged(&module).unwrap();
    assert_eq!((numbers(&averaged[0]), averaged[0].val().device() == away()), (vec![0.375, 0.75], true));
}

#[test]
fn offloaded_trainings_are_saved_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoints = CheckpointDir::create(folder.path()).unwrap();
    let make = || BurnOptimizer::new(Optimizer::builder(Sgd::new(1.0).momentum(0.5))).unwrap().offload();
    let (mut optim, module) = (make(), module());
    let grads = gradients(&module);
    let module = optim.step(None, module, grads).unwrap().module;
    optim.save(&mut checkpoints, &module).unwrap();
    let mut second = make();
    let resumed = second.resume(&checkpoints, self::module()).unwrap().module;
    assert_eq!(numbers(&resumed[0]), [0.5, 1.0]);
    assert!(resumed[0].val().device() == away());
    let grads = gradients(&resumed);
    assert_eq!(numbers(&second.step(None, resumed, grads).unwrap().module[0]), [-0.25, -0.5]);
    assert!(ModuleValues::read(&module).unwrap().left_out().is_empty());
}

#[test]
fn rules_are_offloaded_too() {
    let module = module();
    let grads = gradients(&module);
    let mut optim = Rule::new(Sgd::new(0.0)).unwrap().offload().init();
    let module = optim.step(1.0, module, grads);
    assert_eq!(numbers(&module[0]), [0.5, 1.0]);
    let grads = gradients(&module);
    let mut optim = Rule::new(Sgd::new(0.0)).unwrap().init();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| optim.step(1.0, module, grads)));
    assert!(panicked.unwrap_err().downcast::<String>().unwrap().contains("Rule::offload"));
}
