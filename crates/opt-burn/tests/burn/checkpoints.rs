//! Trainings that are saved and resumed end with the same bits.

use burn_core::module::{Module, Param};
use burn_core::tensor::{DType, Device, Int, Tensor};
use opt_burn::{BurnOptimizer, ModuleValues};
use opt_checkpoint::CheckpointDir;
use optimizers::schedules::CosineDecay;
use optimizers::{Accumulate, Ema, Lookahead, Nadam, Optimizer, OptimizerBuilder, RectifiedAdam, Sgd, UpdateRule};

use crate::support::{Given, Network, bits, built, gradient, numbers, plain, vector};

fn nadam() -> OptimizerBuilder<Nadam, f32> {
    Optimizer::builder(Nadam::new(CosineDecay::with_warmup(0.0, 0.05, 3, 12))).global_clipnorm(0.5).ema(Ema::new(0.8))
}

fn train<R: UpdateRule<f32>>(
    optim: &mut BurnOptimizer<R>,
    mut network: Network,
    steps: std::ops::Range<u64>,
) -> Network {
    for step in steps {
        let grads = network.gradients(step);
        network = optim.step(None, network, grads).unwrap().module;
    }
    network
}

#[track_caller]
fn assert_resumes<R: UpdateRule<f32>>(make: impl Fn() -> OptimizerBuilder<R, f32>) {
    let mut optim = built(make());
    let want = train(&mut optim, Network::new(5), 0..10);
    for stop in [0, 1, 4, 9] {
        let folder = tempfile::tempdir().unwrap();
        let mut checkpoints = CheckpointDir::create(folder.path()).unwrap();
        let mut first = built(make());
        let network = train(&mut first, Network::new(5), 0..stop);
        first.save(&mut checkpoints, &network).unwrap();
        drop((first, network));

        let mut second = built(make());
        let resumed = second.resume(&checkpoints, Network::new(77)).unwrap();
        assert_eq!(resumed.checkpoint.unwrap().loaded.iterations, second.engine().iterations());
        let network = train(&mut second, resumed.module, stop..10);
        assert_eq!(bits(&network), bits(&want), "stopped after {stop}");
        assert_eq!(second.engine().iterations(), optim.engine().iterations());
        assert_eq!(second.engine().micro_step(), optim.engine().micro_step());
        if optim.engine().has_averages() {
            assert_eq!(bits(&second.averaged(&network).unwrap()), bits(&optim.averaged(&want).unwrap()));
        }
    }
}

#[test]
fn nadam_with_everything() {
    assert_resumes(nadam);
}

#[test]
fn a_wrapper_with_slow_weights() {
    assert_resumes(|| Optimizer::builder(Lookahead::new(RectifiedAdam::new(0.05))));
}

#[test]
fn in_the_middle_of_an_accumulation() {
    assert_resumes(|| Optimizer::builder(Sgd::new(0.1).momentum(0.9)).accumulate(Accumulate::mean(3)));
}

#[test]
fn running_means_are_up_to_date() {
    let network = Network::new(6);
    let _ = network.loss(0).into_scalar::<f32>();
    let values = bits(&network);
    let (_, mean) = values.iter().find(|(name, _)| name == "norm.running_mean").unwrap();
    assert!(mean.iter().any(|&bits| f32::from_bits(bits) != 0.0));
    assert_eq!(bits(&network.valid()), values);
}

#[test]
fn without_a_checkpoint_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = CheckpointDir::create(folder.path()).unwrap();
    let network = Network::new(7);
    let before = bits(&network);
    let resumed = built(nadam()).resume(&checkpoints, network).unwrap();
    assert!(resumed.checkpoint.is_none());
    assert_eq!(bits(&resumed.module), before);
}

#[test]
fn a_checkpoint_of_another_module_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoints = CheckpointDir::create(folder.path()).unwrap();
    let mut optim = plain(Sgd::new(0.1));
    optim.save(&mut checkpoints, &vec![vector([1.0, 2.0])]).unwrap();
    let refused = optim.resume(&checkpoints, vec![vector([5.0])]).unwrap_err();
    assert_eq!(numbers(&refused.module[0]), [5.0]);
    assert!(refused.error.to_string().contains("[2]"), "{}", refused.error);
}

#[test]
fn masters_of_parameters_in_16_bits_are_saved() {
    let half = || Param::from_tensor(Tensor::<1>::ones([2], (&Device::flex(), DType::BF16)));
    let step = |optim: &mut BurnOptimizer<Sgd>, param: Param<Tensor<1>>| {
        let given = Given::default().with(param.id, Tensor::<1>::ones([2], (&Device::flex(), DType::BF16)));
        optim.step(None, param, given.0).unwrap().module
    };
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoints = CheckpointDir::create(folder.path()).unwrap();
    let mut optim = plain(Sgd::new(1e-3));
    let param = step(&mut optim, half());
    assert_eq!(numbers(&param), [1.0, 1.0]); // rounded away
    optim.save(&mut checkpoints, &param).unwrap();
    let mut optim = plain(Sgd::new(1e-3));
    let mut param = optim.resume(&checkpoints, half()).unwrap().module;
    assert_eq!(param.val().dtype(), DType::BF16);
    for _ in 0..3 {
        param = step(&mut optim, param);
    }
    assert_eq!(numbers(&param), [0.99609375; 2]); // 1 - 4e-3, rounded
}

#[test]
fn accumulated_gradients_can_be_flushed() {
    let mut optim = built(Optimizer::builder(Sgd::new(1.0)).accumulate(Accumulate::mean(4)));
    let mut module = vec![vector([1.0]), vector([2.0])];
    for number in [1.0, 3.0] {
        let grads = gradient(&module[0], [number]);
        module = optim.step(None, module, grads).unwrap().module;
        assert_eq!(numbers(&module[0]), [1.0]);
    }
    let stepped = optim.flush(module).unwrap();
    assert!(stepped.report.is_applied());
    assert_eq!((numbers(&stepped.module[0]), numbers(&stepped.module[1])), (vec![-1.0], vec![2.0]));
    assert!(stepped.module[0].val().is_require_grad());
    let grads = gradient(&stepped.module[0], [1.0]);
    assert!(optim.step(None, stepped.module, grads).is_ok());
}

#[test]
fn other_kinds_of_parameters_are_left_out() {
    let device = Device::flex();
    let count = Param::initialized(Default::default(), Tensor::<1, Int>::from_data([1], &device));
    let wide = Param::from_tensor(Tensor::<1>::ones([2], (&device, DType::F64)));
    let module = (vector([1.0]), count, wide);
    let values = ModuleValues::read(&module).unwrap();
    assert_eq!(values.left_out(), ["1", "2"]);
    let module = values.write(module).unwrap();
    assert_eq!((numbers(&module.0), module.2.val().dtype()), (vec![1.0], DType::F64));
}

#[test]
fn values_are_written_into_a_module_of_the_same_structure_only() {
    let values = ModuleValues::read(&vec![vector([1.0]), vector([2.0])]).unwrap();
    let written = values.clone().write(vec![vector([0.0]), vector([0.0])]).unwrap();
    assert_eq!(numbers(&written[1]), [2.0]);
    for other in [vec![vector([0.0])], vec![vector([0.0]); 3]] {
        let refused = values.clone().write(other).unwrap_err();
        assert_eq!(numbers(&refused.module[0]), [0.0]);
    }
    let refused = values.write(vec![vector([0.0]), vector([0.0, 0.0])]);
    assert!(refused.unwrap_err().to_string().contains("\"1\""));
}
