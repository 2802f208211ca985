//! Rules in burn's own `ModuleOptimizer`: its records, its groups, its schedulers.

use burn_core::module::{Module, Param, ParamGroup};
use burn_core::tensor::{DType, Device, Tensor};
use burn_optim::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn_optim::{AdamWConfig, ModuleOptimizer};
use opt_burn::Rule;
use optimizers::{Adam, AdamW, Lookahead, Nadam, NovoGrad, RectifiedAdam, Sgd, UpdateRule};

use crate::support::{Given, Network, bits, device, gradient, numbers, vector};

fn train(optim: &mut ModuleOptimizer, mut network: Network, steps: std::ops::Range<u64>) -> Network {
    for step in steps {
        let grads = network.gradients(step);
        network = optim.step(0.05, network, grads);
    }
    network
}

#[track_caller]
fn assert_resumes<R: UpdateRule<f32> + Clone + 'static>(rule: &R) {
    let make = || Rule::new(rule.clone()).unwrap().init();
    let want = bits(&train(&mut make(), Network::new(8), 0..10));
    let folder = tempfile::tempdir().unwrap();
    for stop in [1, 5] {
        let file = folder.path().join(format!("{stop}.bpk"));
        let mut first = make();
        let network = train(&mut first, Network::new(8), 0..stop);
        first.save(&file).unwrap();
        let mut second = make().load(&file).unwrap();
        assert_eq!(bits(&train(&mut second, network, stop..10)), want, "stopped after {stop}");
    }
}

#[test]
fn records_resume_to_the_bit() {
    assert_resumes(&Sgd::new(0.0));
    assert_resumes(&Sgd::new(0.0).momentum(0.9));
    assert_resumes(&AdamW::pytorch(0.0));
    assert_resumes(&Nadam::new(0.0)); // a number for all variables
    assert_resumes(&NovoGrad::new(0.0)); // a number for each variable
    assert_resumes(&Lookahead::new(RectifiedAdam::new(0.0))); // copies of variables
}

#[test]
fn state_is_listed_by_slot() {
    let mut optim = Rule::new(Adam::pytorch(0.1)).unwrap().init();
    let param = vector([1.0, 2.0]);
    let grads = gradient(&param, [1.0, 1.0]);
    let _ = optim.step(0.1, param, grads);
    assert_eq!(optim.to_record().len(), 2);
}

#[test]
fn groups_have_their_own_rule() {
    let fast = Rule::new(AdamW::pytorch(0.0)).unwrap();
    let mut optim =
        Rule::new(Sgd::new(0.0)).unwrap().init().with_group(ParamGroup::from_predicate("output"), fast, None);
    let network = Network::new(9);
    let before = numbers(&network.output.as_ref().unwrap().bias.clone().unwrap());
    let network = train(&mut optim, network, 0..1);
    let after = numbers(&network.output.as_ref().unwrap().bias.clone().unwrap());
    // AdamW moves by the learning rate in its first step, and decays by 0.01 of it.
    let moved = (after[0] - before[0] * (1.0 - 0.05 * 0.01)).abs();
    assert!((moved - 0.05).abs() < 1e-5, "{moved}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("optimizer.bpk");
    optim.save(&file).unwrap();
    let fast = Rule::new(AdamW::pytorch(0.0)).unwrap();
    let second = Rule::new(Sgd::new(0.0)).unwrap().init().with_group(ParamGroup::from_predicate("output"), fast, None);
    let mut second = second.load(&file).unwrap();
    // Clones share their running means, which therefore differ.
    let weights = |network| bits(&network).into_iter().filter(|(name, _): &(String, _)| !name.contains("running"));
    let (got, want) = (train(&mut second, network.clone(), 1..4), train(&mut optim, network, 1..4));
    assert!(weights(got).eq(weights(want)));
}

#[test]
fn schedulers_of_burn_hand_in_the_rate() {
    let mut scheduler = CosineAnnealingLrSchedulerConfig::new(1.0, 4).init().unwrap();
    let mut optim = Rule::new(Sgd::new(123.0)).unwrap().init();
    let (mut param, mut want) = (vector([0.0]), 0.0);
    for _ in 0..4 {
        let rate = scheduler.step().base();
        want -= rate;
        let grads = gradient(&param, [1.0]);
        param = optim.step(rate, param, grads);
    }
    assert!((f64::from(numbers(&param)[0]) - want).abs() < 1e-6, "{want}");
}

#[test]
fn state_of_another_rule_is_not_taken_over() {
    let param = vector([1.0, 2.0]);
    let mut adam = Rule::new(Adam::pytorch(0.1)).unwrap().init();
    let grads = gradient(&param, [1.0, 1.0]);
    let param = adam.step(0.1, param, grads);
    let mut sgd = Rule::new(Sgd::new(0.1)).unwrap().init().load_record(adam.to_record());
    let grads = gradient(&param, [1.0, 1.0]);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sgd.step(0.1, param, grads)));
    let message = panicked.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("not state of") && message.contains("SGD"), "{message}");
}

#[test]
fn a_record_of_burns_own_optimizer_starts_anew() {
    let param = vector([1.0, 2.0]);
    let mut burns = AdamWConfig::new().init();
    let grads = gradient(&param, [1.0, 1.0]);
    let param = burns.step(0.1, param, grads);
    let mut ours = Rule::new(AdamW::pytorch(0.1)).unwrap().init().load_record(burns.to_record());
    let grads = gradient(&param, [1.0, 1.0]);
    let _ = ours.step(0.1, param, grads);
    assert_eq!(ours.to_record().len(), 2);
}

#[test]
fn parameters_in_16_bits_have_masters() {
    for dtype in [DType::BF16, DType::F16] {
        let make = || Rule::new(Sgd::new(0.0)).unwrap().init();
        let mut optim = make();
        let mut param = Param::from_tensor(Tensor::<1>::ones([2], (&device(), dtype)));
        for step in 0..100 {
            let given = Given::default().with(param.id, Tensor::<1>::ones([2], (&Device::flex(), dtype)));
            param = optim.step(1e-4, param, given.0);
            if step == 50 {
                optim = make().from_bytes(optim.into_bytes().unwrap()).unwrap();
            }
        }
        let close = numbers(&param).iter().all(|number| (number - 0.99).abs() <= 1.0 / 256.0);
        assert!(close && param.val().dtype() == dtype, "{:?}", numbers(&param));
    }
}

#[test]
fn numbers_that_were_replaced_replace_the_master() {
    let mut optim = Rule::new(Sgd::new(0.0)).unwrap().init();
    let mut param = Param::from_tensor(Tensor::<1>::ones([2], (&device(), DType::BF16)));
    for _ in 0..2 {
        let given = Given::default().with(param.id, Tensor::<1>::ones([2], (&Device::flex(), DType::BF16)));
        param = optim.step(0.5, param.map(|tensor| tensor * 0.0 + 4.0), given.0);
    }
    assert_eq!(numbers(&param), [3.5, 3.5]);
}

#[test]
fn what_cannot_be_trained_panics() {
    let param = Param::from_tensor(Tensor::<1>::ones([2], (&device(), DType::F64)));
    let given = Given::default().with(param.id, Tensor::<1>::ones([2], &Device::flex()));
    let mut optim = Rule::new(Sgd::new(0.0)).unwrap().init();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| optim.step(0.1, param, given.0)));
    assert!(panicked.unwrap_err().downcast::<String>().unwrap().contains("F64"));
}

#[test]
fn hyperparameters_are_checked() {
    assert!(Rule::new(Adam::pytorch(0.1).beta_1(1.5)).unwrap_err().to_string().contains("beta_1"));
    assert!(Rule::new(Sgd::new(0.1)).unwrap().weight_decay(-1.0).is_err());
}

#[test]
fn numbers_are_updated_in_place() {
    let mut optim = Rule::new(Nadam::new(0.0)).unwrap().init();
    let network = train(&mut optim, Network::new(4), 0..2);
    let whole = network.input.weight.clone();
    let (_, tensor, _) = network.input.weight.consume();
    let address = |tensor: Tensor<2>| {
        tensor.inner().try_into_primitive::<burn_core::backend::Flex>().unwrap().bytes().as_ptr() as usize
    };
    let before = address(tensor);
    let given = Given::default().with(whole.id, Tensor::<2>::ones(whole.shape(), &Device::flex()));
    let after = optim.step(0.1, whole, given.0);
    assert_eq!(address(after.base()), before);
    assert_eq!(after.num_params(), 30);
}
