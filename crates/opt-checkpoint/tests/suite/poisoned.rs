//! A training that was interrupted in the middle of a step cannot be saved.

use std::panic::{self, AssertUnwindSafe};

use opt_checkpoint::{Checkpoint, CheckpointDir, Error};
use opt_core::rule::{Kernel, SlotSpec, Step};
use opt_core::{Hyper, Optimizer, UpdateRule, Variable, hyperparameters};

hyperparameters! {
    /// A rule that panics in its third step, after the step has begun.
    #[derive(Debug)]
    struct GivesUp {
        learning_rate: Hyper = 1.0, "learning rate";
    }
    rule "GivesUp"
}

impl UpdateRule<f64> for GivesUp {
    fn slots(&self) -> Vec<SlotSpec> {
        vec![SlotSpec::zeros("m")]
    }
    fn begin_step(&self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<f64>> {
        assert!(step.iteration < 2, "it gives up");
        Box::new(opt_core::rule::elementwise(step.learning_rate, |k, w, g, [m]: [f64; 1]| (w - k * (m + g), [m + g])))
    }
}

#[test]
fn half_a_step_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let mut directory = CheckpointDir::create(folder.path()).unwrap();
    let mut opt = Optimizer::new(GivesUp::default()).unwrap();
    let mut w = [1.0];
    let step = |opt: &mut Optimizer<GivesUp, f64>, w: &mut [f64; 1]| {
        opt.apply_gradients([Variable::new("w", w).gradient(&[1.0])]).unwrap();
    };
    for _ in 0..2 {
        step(&mut opt, &mut w);
    }
    let saved = directory.save(&opt, &[Variable::new("w", &mut w)]).unwrap();
    let broken = panic::catch_unwind(AssertUnwindSafe(|| step(&mut opt, &mut w)));
    assert!(broken.is_err());
    let refused = directory.save(&opt, &[Variable::new("w", &mut w)]).unwrap_err();
    assert!(matches!(refused, Error::Optimizer(opt_core::Error::Poisoned)), "{refused}");
    assert_eq!(directory.list().unwrap().len(), 1);
    // The previous checkpoint is the way back.
    Checkpoint::open(&saved.path).unwrap().load(&mut opt, &mut [Variable::new("w", &mut w)]).unwrap();
    assert_eq!((w, opt.iterations()), ([-2.0], 2));
    directory.save(&opt, &[Variable::new("w", &mut w)]).unwrap();
}
