//! A training resumes bit for bit, from a file of any of its steps.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Init, VarMap};
use opt_candle::{CandleOptimizer, Error};
use optimizers::checkpoint::{self, Checkpoint, CheckpointDir, LoadOptions, SaveOptions};
use optimizers::schedules::CosineDecay;
use optimizers::{Accumulate, Ema, Lookahead, MomentStorage, Nadam, Optimizer, OptimizerBuilder};
use serde_json::json;

const STEPS: usize = 12;

/// Every kind of state: slow weights, moments in 16 bits, averages, masters, accumulated gradients.
fn builder() -> OptimizerBuilder<Lookahead<Nadam>> {
    Optimizer::builder(Lookahead::new(Nadam::new(CosineDecay::new(0.1, 20))).sync_period(3))
        .moments(MomentStorage::Bf16 { seed: 1 })
        .ema(Ema::new(0.9))
        .accumulate(Accumulate::mean(2))
        .global_clipnorm(1.0)
}

/// A map of a matrix in `f32`, a vector in `bf16`, and a variable that is never trained.
fn map() -> VarMap {
    let map = VarMap::new();
    for (name, shape, dtype) in
        [("matrix", vec![4, 3], DType::F32), ("vector", vec![5], DType::BF16), ("statistic", vec![2], DType::F32)]
    {
        map.get(shape, name, Init::Const(1.0), dtype, &Device::Cpu).unwrap();
    }
    map
}

fn var(map: &VarMap, name: &str) -> Var {
    map.data().lock().unwrap()[name].clone()
}

/// The gradients of a step.
fn gradients(map: &VarMap, step: usize) -> GradStore {
    let mut store = GradStore::default();
    for name in ["matrix", "vector"] {
        let var = var(map, name);
        let numbers = (0..var.elem_count()).map(|i| ((i + 2) * (step + 5) * 7919 % 2003) as f32 / 1001.5 - 1.0);
        let gradient = Tensor::from_iter(numbers, &Device::Cpu).unwrap().reshape(var.shape()).unwrap();
        store.insert(&var, gradient.to_dtype(var.dtype()).unwrap());
    }
    store
}

/// The bits of all variables, which include their averages.
fn bits(map: &VarMap, opt: &mut CandleOptimizer<Lookahead<Nadam>>) -> Vec<Vec<u32>> {
    let read = || -> Vec<Vec<u32>> {
        let bits = |name| {
            let numbers = var(map, name).to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            numbers.into_iter().map(f32::to_bits).collect()
        };
        ["matrix", "vector", "statistic"].map(bits).into()
    };
    let mut all = read();
    let _averages = opt.averages().unwrap();
    all.extend(read());
    all
}

#[test]
fn files_of_every_step_resume_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = |step: usize| folder.path().join(format!("{step}.safetensors"));
    let straight = map();
    let mut opt = CandleOptimizer::from_varmap(&straight, builder()).unwrap();
    for step in 0..STEPS {
        opt.save(path(step)).unwrap();
        opt.step(&gradients(&straight, step)).unwrap();
    }
    let expected = bits(&straight, &mut opt);
    assert_ne!(expected[0], expected[3], "averages lag behind");

    for start in 0..STEPS {
        let resumed = map();
        let mut opt = CandleOptimizer::from_varmap(&resumed, builder()).unwrap();
        // What was there before does not matter.
        opt.step(&gradients(&resumed, 99)).unwrap();
        let loaded = opt.resume(path(start)).unwrap();
        assert_eq!(loaded.iterations, start as u64 / 2);
        (start..STEPS).for_each(|step| drop(opt.step(&gradients(&resumed, step)).unwrap()));
        assert_eq!(bits(&resumed, &mut opt), expected, "from step {start}");
    }
}

#[test]
fn folders_keep_what_else_a_training_needs() {
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoints = CheckpointDir::create(folder.path()).unwrap();
    let trained = map();
    let mut opt = CandleOptimizer::from_varmap(&trained, builder()).unwrap();
    assert!(opt.resume_latest(&checkpoints).unwrap().is_none());
    (0..4).for_each(|step| drop(opt.step(&gradients(&trained, step)).unwrap()));
    opt.save_in(&mut checkpoints, SaveOptions::new().extra(json!({ "epoch": 7 }))).unwrap();

    let resumed = map();
    let mut other = CandleOptimizer::from_varmap(&resumed, builder()).unwrap();
    let found = other.resume_latest(&checkpoints).unwrap().unwrap();
    assert_eq!((found.loaded.iterations, &found.loaded.extra["epoch"]), (2, &json!(7)));
    assert_eq!(bits(&resumed, &mut other), bits(&trained, &mut opt));
}

#[test]
fn another_model_is_refused_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let trained = map();
    let mut opt = CandleOptimizer::from_varmap(&trained, builder()).unwrap();
    (0..2).for_each(|step| drop(opt.step(&gradients(&trained, step)).unwrap()));
    opt.save(&path).unwrap();

    let larger = map();
    larger.get((2, 2), "new", Init::Const(0.0), DType::F32, &Device::Cpu).unwrap();
    let mut other = CandleOptimizer::from_varmap(&larger, builder()).unwrap();
    let refused = other.resume(&path);
    assert!(matches!(refused, Err(Error::Checkpoint(checkpoint::Error::Mismatch { .. }))), "{refused:?}");
    assert_eq!(var(&larger, "matrix").to_vec2::<f32>().unwrap(), [[1.0; 3]; 4]);
    assert_eq!(other.engine().iterations(), 0);

    // Another rate is another configuration, which has to be said.
    let faster = Optimizer::builder(Lookahead::new(Nadam::new(0.5)).sync_period(3))
        .moments(MomentStorage::Bf16 { seed: 1 })
        .ema(Ema::new(0.9))
        .accumulate(Accumulate::mean(2))
        .global_clipnorm(1.0);
    let mut faster = CandleOptimizer::from_varmap(&map(), faster).unwrap();
    assert!(faster.resume(&path).is_err());
    assert_eq!(faster.resume_with(&path, LoadOptions::new().any_configuration()).unwrap().iterations, 1);
}

#[test]
fn variables_are_in_the_order_of_their_names() {
    let map = VarMap::new();
    for i in 10..40 {
        map.get(1, &format!("layer{i}"), Init::Const(1.0), DType::F32, &Device::Cpu).unwrap();
    }
    let opt = CandleOptimizer::from_varmap(&map, builder()).unwrap();
    assert!(opt.variables().map(|(name, _)| name).is_sorted());
}

/// The names of the file are those of the map, so candle reads the variables, too.
#[test]
fn the_file_has_the_names_of_the_map() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let trained = map();
    let mut opt = CandleOptimizer::from_varmap(&trained, builder()).unwrap();
    (0..2).for_each(|step| drop(opt.step(&gradients(&trained, step)).unwrap()));
    opt.save(&path).unwrap();
    Checkpoint::open(&path).unwrap().verify().unwrap();
    let mut loaded = map();
    loaded.load(&path).unwrap();
    assert_eq!(var(&loaded, "matrix").to_vec2::<f32>().unwrap(), var(&trained, "matrix").to_vec2::<f32>().unwrap());
}

/// Variables without names could get each other's numbers: checkpoints of them are refused.
#[test]
fn checkpoints_need_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("numbered.safetensors");
    let mut opt: CandleOptimizer<_> = candle_nn::Optimizer::new(map().all_vars(), builder()).unwrap();
    let mut folder = CheckpointDir::create(folder.path()).unwrap();
    assert!(matches!(opt.save(&path), Err(Error::Numbered)));
    assert!(matches!(opt.save_in(&mut folder, SaveOptions::new()), Err(Error::Numbered)));
    assert!(matches!(opt.resume_latest(&folder), Err(Error::Numbered)));
    CandleOptimizer::from_varmap(&map(), builder()).unwrap().save(&path).unwrap();
    assert!(matches!(opt.resume(&path), Err(Error::Numbered)));
}
