//! Steps that are refused: the module comes back, and nothing has changed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn_core::module::Param;
use burn_core::tensor::{DType, Device, Tensor};
use burn_optim::GradientsParams;
use opt_burn::{BurnOptimizer, Error, Refused};
use opt_core::rule::{Kernel, SlotSpec, Step, elementwise};
use opt_core::{Hyper, hyperparameters};
use optimizers::{NonFinite, Optimizer, Outcome, Sgd, UpdateRule};

use crate::support::{Given, Network, Vector, bits, built, gradient, numbers, plain, vector};

/// Makes a step that is refused, and checks that it left no trace.
#[track_caller]
fn refused<R: UpdateRule<f32>>(
    optim: &mut BurnOptimizer<R>,
    rate: Option<f64>,
    module: Vec<Vector>,
    gradients: GradientsParams,
) -> Error {
    let before = (bits(&module), optim.engine().weights().len(), optim.engine().iterations());
    let Refused { module, error, .. } = optim.step(rate, module, gradients).unwrap_err();
    let ids: Vec<_> = module.iter().map(|param| param.val().is_require_grad()).collect();
    assert_eq!((bits(&module), optim.engine().weights().len(), optim.engine().iterations()), before);
    assert!(ids.iter().all(|&is_required| is_required));
    let grads = gradient(&module[0], [1.0, 1.0]);
    assert!(optim.step(0.5, module, grads).unwrap().report.is_applied(), "the next step is made");
    error
}

fn module() -> Vec<Vector> {
    vec![vector([1.0, 2.0]), vector([3.0])]
}

#[test]
fn learning_rates_out_of_range() {
    for rate in [-0.1, f64::NAN, f64::INFINITY] {
        let module = module();
        let grads = gradient(&module[0], [1.0, 1.0]);
        let error = refused(&mut plain(Sgd::new(0.1)), Some(rate), module, grads);
        assert!(matches!(&error, Error::Engine(opt_core::Error::Hyperparameter(_))), "{error}");
    }
}

#[test]
fn no_gradient_at_all() {
    let error = refused(&mut plain(Sgd::new(0.1)), None, module(), GradientsParams::new());
    assert!(matches!(error, Error::Engine(opt_core::Error::NoGradients { variables: 2 })), "{error}");
}

#[test]
fn gradients_of_another_shape() {
    let module = module();
    let grads = gradient(&module[0], [1.0]);
    let error = refused(&mut plain(Sgd::new(0.1)), None, module, grads);
    assert!(matches!(&error, Error::Engine(opt_core::Error::GradientShape { variable, .. }) if variable == "0"));
}

#[test]
fn gradients_that_are_not_finite() {
    let module = module();
    let given =
        Given(gradient(&module[0], [1.0, 1.0])).with(module[1].id, Tensor::<1>::from_data([f32::NAN], &Device::flex()));
    let mut optim = built(Optimizer::builder(Sgd::new(0.1)).non_finite(NonFinite::Error));
    let error = refused(&mut optim, None, module, given.0);
    assert!(matches!(&error, Error::Engine(opt_core::Error::NonFiniteGradient { .. })), "{error}");
}

#[test]
fn a_skipped_step_is_no_error() {
    let module = module();
    let given =
        Given(gradient(&module[0], [1.0, 1.0])).with(module[1].id, Tensor::<1>::from_data([f32::NAN], &Device::flex()));
    let before = bits(&module);
    let mut optim = built(Optimizer::builder(Sgd::new(0.1)).non_finite(NonFinite::SkipStep));
    let stepped = optim.step(None, module, given.0).unwrap();
    assert_eq!((stepped.report.outcome, bits(&stepped.module)), (Outcome::NonFinite, before));
}

#[test]
fn parameters_in_64_bits() {
    let param = Param::from_tensor(Tensor::<1>::ones([2], (&Device::flex(), DType::F64)));
    let given = Given::default().with(param.id, Tensor::<1>::ones([2], &Device::flex()));
    let Refused { module, error, .. } = plain(Sgd::new(0.1)).step(None, param, given.0).unwrap_err();
    assert!(matches!(&error, Error::ElementType { parameter, dtype: DType::F64 } if parameter == "value"), "{error}");
    assert_eq!(module.val().dtype(), DType::F64);
}

#[test]
fn a_parameter_that_has_changed_its_shape() {
    let mut optim = plain(Sgd::new(1.0));
    let param = vector([1.0, 2.0]);
    let grads = gradient(&param, [1.0, 1.0]);
    let param = optim.step(None, param, grads).unwrap().module.map(|tensor| tensor.inner().narrow(0, 0, 1));
    let grads = gradient(&param, [1.0]);
    let Refused { module, error, .. } = optim.step(None, param, grads).unwrap_err();
    assert!(matches!(&error, Error::Engine(opt_core::Error::VariableShape { .. })), "{error}");
    assert_eq!(numbers(&module), [0.0]);
}

hyperparameters! {
    /// Panics at the second variable of a step.
    #[derive(Debug, Clone)]
    struct Panics {
        learning_rate: Hyper = 0.1, in 0.0.., "learning rate";
    }
    rule "Panics"
}

impl UpdateRule<f32> for Panics {
    fn slots(&self) -> Vec<SlotSpec> {
        Vec::new()
    }

    fn begin_step<'a>(&'a self, _step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<f32> + 'a> {
        Box::new(elementwise((), |(), w: f32, _, []| {
            assert!(w < 2.0, "the rule panics");
            (w, [])
        }))
    }
}

#[test]
fn a_panic_poisons() {
    let mut optim = plain(Panics { learning_rate: 0.1.into() });
    let module = vec![vector([1.0, 1.0]), vector([3.0])];
    let kept = module.clone();
    let given = Given(gradient(&module[0], [1.0, 1.0])).with(module[1].id, Tensor::<1>::ones([1], &Device::flex()));
    let panicked = catch_unwind(AssertUnwindSafe(|| optim.step(None, module, given.0).is_ok()));
    assert!(panicked.is_err());
    let grads = gradient(&kept[0], [1.0, 1.0]);
    let refused = optim.step(None, kept, grads).unwrap_err();
    assert!(matches!(refused.error, Error::Engine(opt_core::Error::Poisoned)), "{}", refused.error);
    assert_eq!(numbers(&refused.module[1]), [3.0]);
}

#[test]
fn an_error_says_what_is_wrong_and_can_be_passed_on() {
    fn fails() -> Result<(), Box<dyn std::error::Error>> {
        let network = Network::new(1);
        let grads = network.gradients(0);
        let _ = plain(Sgd::new(0.1)).step(-1.0, network, grads)?;
        Ok(())
    }
    let error = fails().unwrap_err().to_string();
    assert!(error.contains("learning_rate") && error.contains("-1"), "{error}");
}

#[test]
fn options_of_a_builder_are_checked() {
    let error = BurnOptimizer::new(Optimizer::builder(Sgd::new(0.1)).global_clipnorm(-1.0)).unwrap_err();
    assert!(error.to_string().contains("global_clipnorm"), "{error}");
}
