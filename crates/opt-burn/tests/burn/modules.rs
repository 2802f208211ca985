//! Modules of all kinds: what is updated, under which name, and what stays as it was.

use burn_core as burn;
use burn_core::module::{Lora, Module, Param, ParamGroup};
use burn_core::tensor::{Bool, Device, Int, Tensor};
use burn_nn::{Linear, LinearConfig};
use burn_optim::lr_scheduler::constant::ConstantLr;
use burn_optim::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn_optim::{GradientsParams, MultiGradientsParams};
use opt_burn::{BurnOptimizer, Error};
use optimizers::{Ema, Group, Optimizer, Sgd, UpdateRule};

use crate::support::{Given, Network, Vector, bits, built, device, gradient, numbers, plain, vector};

fn names<R: UpdateRule<f32>>(optim: &BurnOptimizer<R>) -> Vec<&str> {
    optim.engine().variables().map(|(name, _)| name).collect()
}

#[test]
fn names_are_paths() {
    let mut optim = plain(Sgd::new(0.1));
    let network = Network::new(1);
    let grads = network.gradients(0);
    let _ = optim.step(None, network, grads).unwrap();
    let layers = ["input", "norm", "hidden.0", "hidden.1", "output"];
    let parts = |layer: &&str| if *layer == "norm" { ["gamma", "beta"] } else { ["weight", "bias"] };
    let want: Vec<String> =
        layers.iter().flat_map(|layer| parts(layer).map(|part| format!("{layer}.{part}"))).collect();
    assert_eq!(names(&optim), want);
}

#[test]
fn a_parameter_alone_is_a_module() {
    let mut optim = plain(Sgd::new(1.0));
    let param = vector([1.0, 2.0]);
    let grads = gradient(&param, [0.5, -1.0]);
    let stepped = optim.step(None, param, grads).unwrap();
    assert_eq!(numbers(&stepped.module), [0.5, 3.0]);
    assert_eq!(names(&optim), ["value"]);
}

/// A variant of a module.
#[derive(Module, Debug)]
enum Head {
    Plain(Vector),
    Wide(Linear),
}

#[derive(Module, Debug)]
struct Mixed {
    heads: [Head; 2],
    missing: Option<Linear>,
    pair: (Vector, Vector),
    positions: Param<Tensor<1, Int>>,
    mask: Param<Tensor<1, Bool>>,
    factor: f64,
}

fn mixed() -> Mixed {
    let device = device();
    Mixed {
        heads: [Head::Plain(vector([1.0])), Head::Wide(LinearConfig::new(2, 1).init(&device))],
        missing: None,
        pair: (vector([2.0]), vector([3.0])),
        positions: Param::initialized(Default::default(), Tensor::from_data([1, 2], &device)),
        mask: Param::initialized(Default::default(), Tensor::from_data([true, false], &device)),
        factor: 2.0,
    }
}

#[test]
fn enums_options_tuples_and_integers() {
    let module = mixed();
    let Head::Plain(head) = &module.heads[0] else { panic!("a plain head") };
    let one = || Tensor::<1>::from_data([1.0], &Device::flex());
    let given = Given::default().with(head.id, one()).with(module.pair.1.id, one());
    let mut optim = plain(Sgd::new(0.25));
    let module = optim.step(None, module, given.0).unwrap().module;
    let Head::Plain(head) = &module.heads[0] else { panic!("a plain head") };
    assert_eq!((numbers(head), numbers(&module.pair.0), numbers(&module.pair.1)), (vec![0.75], vec![2.0], vec![2.75]));
    assert_eq!(names(&optim), ["heads.0.Plain", "pair.1"]);
    assert_eq!(module.positions.val().into_data().try_to_vec_as::<i64>().unwrap(), [1, 2]);
    assert!(matches!(&module.heads[1], Head::Wide(linear) if linear.bias.is_some()));
}

#[test]
fn an_empty_module_is_no_step() {
    let mut optim = plain(Sgd::new(0.25));
    let stepped = optim.step(None, Vec::<Vector>::new(), GradientsParams::new()).unwrap();
    assert_eq!((stepped.report.iterations, stepped.module.len()), (0, 0));
}

#[test]
fn frozen_parameters_stay() {
    let network = Network::new(2).freeze_group(ParamGroup::from_predicate("input"));
    let before = bits(&network);
    let mut optim = plain(Sgd::new(0.1));
    let grads = network.gradients(0);
    let network = optim.step(None, network, grads).unwrap().module;
    let changed: Vec<String> = changed(&before, &bits(&network));
    assert!(!network.input.weight.is_require_grad() && network.hidden[0].weight.is_require_grad());
    assert!(changed.iter().all(|name| !name.starts_with("input")), "{changed:?}");
    assert!(changed.contains(&"output.weight".to_owned()));
}

/// The names of values that are not the same.
fn changed(before: &[(String, Vec<u32>)], after: &[(String, Vec<u32>)]) -> Vec<String> {
    let pairs = before.iter().zip(after);
    pairs.filter(|(before, after)| before != after).map(|(before, _)| before.0.clone()).collect()
}

#[test]
fn groups_by_path() {
    let frozen = Group::matching("^hidden").frozen().named("hidden");
    let slow = Group::matching("^output").learning_rate_scale(0.0).named("output");
    let mut optim = built(Optimizer::builder(Sgd::new(0.1)).group(frozen).group(slow));
    let network = Network::new(3);
    let grads = network.gradients(0); // changes the running means
    let before = bits(&network);
    let after = bits(&optim.step(None, network, grads).unwrap().module);
    assert_eq!(changed(&before, &after), ["input.weight", "input.bias", "norm.gamma", "norm.beta"]);
}

#[test]
fn parameters_keep_what_they_carry() {
    let device = Device::flex().autodiff().gradient_checkpointing();
    let param =
        Vector::from_data([1.0, 2.0], &device).load_mapper(|tensor| tensor * 2.0).save_mapper(|tensor| tensor + 1.0);
    let strategy = param.val().gradient_checkpointing_strategy();
    let id = param.id;
    let mut optim = plain(Sgd::new(1.0));
    let grads = GradientsParams::from_grads(param.val().sum().backward(), &param);
    let param = optim.step(None, param, grads).unwrap().module;
    assert_eq!((param.id, numbers(&param)), (id, vec![0.0, 1.0]));
    assert_eq!(param.val().gradient_checkpointing_strategy(), strategy);
    assert!(strategy.is_some() && param.val().is_require_grad());
    let (_, tensor, mapper) = param.clone().consume();
    assert_eq!(mapper.on_load(tensor.clone()).into_data().try_to_vec_as::<f32>().unwrap(), [0.0, 2.0]);
    assert_eq!(mapper.on_save(tensor).into_data().try_to_vec_as::<f32>().unwrap(), [1.0, 2.0]);
    // The next forward pass meets inputs with the same strategy.
    let input = Tensor::<1>::from_data([1.0, 1.0], &device);
    let grads = GradientsParams::from_grads((param.val() * input).sum().backward(), &param);
    assert_eq!(numbers(&optim.step(None, param, grads).unwrap().module), [-1.0, 0.0]);
}

#[test]
fn a_module_without_autodiff_stays_without() {
    let param = Vector::from_data([1.0], &Device::flex());
    let grads = gradient(&param, [1.0]);
    let param = plain(Sgd::new(1.0)).step(None, param, grads).unwrap().module;
    assert!(!param.val().is_autodiff() && !param.val().is_require_grad());
    assert!(param.train().val().is_require_grad());
}

#[test]
fn a_module_that_is_evaluated_can_be_trained_again() {
    let param = plain(Sgd::new(1.0));
    let (mut optim, module) = (param, vector([1.0]));
    let grads = gradient(&module, [1.0]);
    let module = optim.step(None, module, grads).unwrap().module.valid();
    let grads = gradient(&module, [1.0]);
    let module = optim.step(None, module, grads).unwrap().module.train();
    assert!(module.val().is_require_grad());
    assert_eq!(numbers(&module), [-1.0]);
}

#[test]
fn adapters_of_lora_are_trained() {
    let device = device();
    let linear = LinearConfig::new(3, 2).init(&device).apply_lora(Lora::new(2, 4.0));
    let base = linear.weight.base().into_data();
    let mut optim = plain(Sgd::new(0.1));
    let mut linear = linear;
    for _ in 0..3 {
        let loss = linear.forward(Tensor::<2>::ones([2, 3], &device)).square().sum();
        let grads = GradientsParams::from_grads(loss.backward(), &linear);
        linear = optim.step(None, linear, grads).unwrap().module;
    }
    assert_eq!(linear.weight.base().into_data(), base);
    assert!(linear.weight.adapter().unwrap().b.val().abs().sum().into_scalar::<f32>() > 0.0);
    assert!(names(&optim).iter().all(|name| name.starts_with("weight.") || *name == "bias"), "{:?}", names(&optim));
}

#[test]
fn gradients_from_several_devices_are_summed() {
    let param = vector([1.0]);
    let (first, second) = (gradient(&param, [0.25]), gradient(&param, [0.5]));
    let multi = MultiGradientsParams { grads: vec![(first, Device::flex()), (second, Device::flex())] };
    let stepped = plain(Sgd::new(1.0)).step(None, param, multi).unwrap();
    assert_eq!(numbers(&stepped.module), [0.25]);
}

#[test]
fn gradients_of_other_modules_are_counted() {
    let (param, other) = (vector([1.0]), vector([1.0]));
    let one = || Tensor::<1>::from_data([1.0], &Device::flex());
    let given = Given::default().with(param.id, one()).with(other.id, one());
    assert_eq!(plain(Sgd::new(1.0)).step(None, param, given.0).unwrap().unused_gradients, 1);
}

#[test]
fn a_parameter_in_two_places_is_refused() {
    let shared = vector([1.0]);
    let module = vec![shared.clone(), vector([2.0]), shared];
    let grads = GradientsParams::from_grads((module[0].val() * module[2].val()).sum().backward(), &module);
    let refused = plain(Sgd::new(1.0)).step(None, module, grads).unwrap_err();
    assert!(matches!(&refused.error, Error::SharedParameter { first, second } if first == "0" && second == "2"));
    assert_eq!(numbers(&refused.module[2]), [1.0]);
}

#[test]
fn a_frozen_parameter_may_be_in_two_places() {
    let shared = vector([1.0]);
    let module = vec![shared.clone(), vector([2.0]), shared];
    let grads = gradient(&module[1], [1.0]);
    let stepped = plain(Sgd::new(1.0)).step(None, module, grads).unwrap();
    assert_eq!(numbers(&stepped.module[1]), [1.0]);
}

#[test]
fn two_modules_do_not_share_state() {
    let (first, second) = (vector([1.0]), vector([1.0]));
    let mut optim = plain(Sgd::new(1.0).momentum(0.9));
    let grads = gradient(&first, [1.0]);
    let first = optim.step(None, first, grads).unwrap().module;
    for _ in 0..2 {
        let refused = optim.step(None, second.clone(), gradient(&second, [1.0])).unwrap_err();
        assert!(matches!(&refused.error, Error::AnotherParameter { parameter } if parameter == "value"));
    }
    let grads = gradient(&first, [1.0]);
    assert_eq!(optim.step(None, first, grads).unwrap().report.iterations, 2);
    optim.follow(&second);
    let grads = gradient(&second, [1.0]);
    assert_eq!(optim.step(None, second, grads).unwrap().report.iterations, 3);
}

#[test]
fn two_modules_with_other_names_take_turns() {
    let (mut first, mut second) = (vec![vector([1.0])], (Vec::<Vector>::new(), vec![vector([1.0])]));
    let mut optim = plain(Sgd::new(1.0));
    for turn in 1..=3 {
        let grads = gradient(&first[0], [1.0]);
        first = optim.step(None, first, grads).unwrap().module;
        let grads = gradient(&second.1[0], [1.0]);
        second = optim.step(None, second, grads).unwrap().module;
        assert_eq!((numbers(&first[0])[0], numbers(&second.1[0])[0]), (1.0 - turn as f32, 1.0 - turn as f32));
    }
    assert_eq!(names(&optim), ["0", "1.0"]);
}

#[test]
fn a_clone_has_the_same_parameters() {
    let network = Network::new(4);
    let mut optim = built(Optimizer::builder(Sgd::new(0.1)).ema(Ema::new(0.5)));
    let grads = network.gradients(0);
    let network = optim.step(None, network.clone(), grads).unwrap().module;
    let grads = network.gradients(1);
    assert_eq!(optim.step(None, network.clone(), grads).unwrap().report.iterations, 2);
}

#[test]
fn schedulers_of_burn_hand_in_the_rate() {
    let linear = |rate| LinearLrSchedulerConfig::new(rate, 0.25, 2);
    let mut scheduler = linear(1.0).init().unwrap();
    let mut optim = plain(Sgd::new(123.0));
    let mut module = vec![vector([0.0]), vector([0.0])];
    let mut want = 0.0;
    for _ in 0..3 {
        let rate = scheduler.step();
        want -= rate.base();
        let grads = gradient(&module[0], [1.0]);
        module = optim.step(rate, module, grads).unwrap().module;
        assert!((f64::from(numbers(&module[0])[0]) - want).abs() < 1e-6);
    }
    let mut scheduler = scheduler.with_group(ParamGroup::from_path("1"), ConstantLr::new(0.125));
    let grads = gradient(&module[0], [1.0]);
    let refused = optim.step(scheduler.step(), module, grads).unwrap_err();
    assert!(matches!(&refused.error, Error::GroupRate { parameter, .. } if parameter == "1"), "{}", refused.error);
}
