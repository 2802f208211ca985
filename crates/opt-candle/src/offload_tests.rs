//! Variables whose numbers are copied for each call: on the CPU, as if it were another device.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use opt_core::{Ema, Optimizer, OptimizerBuilder};
use optimizers::Nadam;

use crate::builder::CandleBuilder;
use crate::copies::Copies;
use crate::optimizer::CandleOptimizer;

fn builder() -> OptimizerBuilder<Nadam> {
    Optimizer::builder(Nadam::new(0.1)).ema(Ema::new(0.5)).global_clipnorm(1.0)
}

fn vars() -> [(&'static str, Var); 2] {
    [("a", &[1.0_f32, 2.0][..]), ("b", &[3.0])].map(|(name, values)| (name, Var::new(values, &Device::Cpu).unwrap()))
}

fn grads(vars: &[(&str, Var)]) -> GradStore {
    let mut grads = GradStore::default();
    grads.insert(&vars[0].1, Tensor::new(&[0.5_f32, -1.0], &Device::Cpu).unwrap());
    grads
}

fn values(vars: &[(&str, Var)]) -> Vec<Vec<f32>> {
    vars.iter().map(|(_, var)| var.to_vec1().unwrap()).collect()
}

#[test]
fn copied_variables_have_the_numbers_of_those_in_place() {
    let (theirs, vars) = (vars(), vars());
    let mut in_place = CandleOptimizer::from_named(theirs.clone(), builder()).unwrap();
    let mut copied = CandleBuilder::new(builder()).copy_all().for_named(vars.clone()).unwrap();
    for _ in 0..3 {
        in_place.step(&grads(&theirs)).unwrap();
        copied.step(&grads(&vars)).unwrap();
        // A gradient of 8 bytes and its variable come, the variable goes; the other one stays where it is.
        assert_eq!(copied.copies(), Copies { bytes_to_host: 16, bytes_to_device: 8, ..Copies::default() });
    }
    assert_eq!(values(&vars), values(&theirs));
    assert_eq!(in_place.copies(), Copies::default());

    {
        let (_theirs, _ours) = (in_place.averages().unwrap(), copied.averages().unwrap());
        assert_eq!(values(&vars), values(&theirs));
        assert_ne!(values(&vars)[0], [1.0, 2.0]);
    }
    assert_eq!(values(&vars), values(&theirs));
}

#[test]
fn saving_copies_in_one_direction() {
    let vars = vars();
    let mut opt = CandleBuilder::new(builder()).copy_all().for_named(vars.clone()).unwrap();
    opt.step(&grads(&vars)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    opt.save(&path).unwrap();
    assert_eq!(opt.copies(), Copies { bytes_to_host: 12, ..Copies::default() });

    let saved = values(&vars);
    opt.step(&grads(&vars)).unwrap();
    assert_ne!(values(&vars), saved);
    opt.resume(&path).unwrap();
    assert_eq!(values(&vars), saved);
    assert_eq!(opt.copies(), Copies { bytes_to_host: 12, bytes_to_device: 12, ..Copies::default() });
}

#[test]
fn gradients_that_share_memory_with_copied_variables_are_no_problem() {
    let vars = vars();
    let mut opt = CandleBuilder::new(builder()).copy_all().for_named(vars.clone()).unwrap();
    let mut grads = GradStore::default();
    grads.insert(&vars[1].1, vars[1].1.as_detached_tensor());
    assert!(opt.step(&grads).unwrap().is_applied());
    assert!(values(&vars)[1][0] < 3.0);
}
