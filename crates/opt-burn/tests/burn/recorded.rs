//! Recorded runs of other libraries, replayed through burn's parameters.
//!
//! All dense runs are replayed in 32 bits. Each must have the bits of the same run on plain slices; the ones that were
//! recorded in 32 bits must also have the recorded numbers.

use std::fs;

use burn_core::module::{Module, ModuleMapper, ModuleVisitor};
use burn_core::tensor::{Device, Tensor, TensorData};
use burn_optim::{GradientsParams, ModuleOptimizer};
use opt_burn::{BurnOptimizer, Rule};
use opt_conformance::golden::{Case, File, OptimizerCase, RecordedGradient, RecordedStep};
use optimizers::{DynOptimizer, Exclude, Gradient, OptimizerBuilder, Registry, UpdateRule, Variable};

use crate::support::{Given, Vector, numbers};

/// Parameters with names of their own. The numbers of each are one row.
#[derive(Debug, Clone)]
struct Named(Vec<(String, Vector)>);

impl Module for Named {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (name, param) in &self.0 {
            visitor.enter_module(name, "Named");
            param.visit(visitor);
            visitor.exit_module(name, "Named");
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let map = |(name, param): (String, Vector)| {
            mapper.enter_module(&name, "Named");
            let param = Module::map(param, mapper);
            mapper.exit_module(&name, "Named");
            (name, param)
        };
        Self(self.0.into_iter().map(map).collect())
    }

    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.0.iter().fold(devices, |devices, (_, param)| param.collect_devices(devices))
    }

    fn to_device(self, device: &Device) -> Self {
        Self(self.0.into_iter().map(|(name, param)| (name, param.to_device(device))).collect())
    }

    fn fork(self, device: &Device) -> Self {
        Self(self.0.into_iter().map(|(name, param)| (name, param.fork(device))).collect())
    }

    fn valid(&self) -> Self {
        Self(self.0.iter().map(|(name, param)| (name.clone(), param.valid())).collect())
    }

    fn train(self) -> Self {
        Self(self.0.into_iter().map(|(name, param)| (name, param.train())).collect())
    }

    fn materialize(self) -> Self {
        self
    }
}

impl Named {
    fn of(case: &OptimizerCase) -> Self {
        let param = |numbers: &[f64]| Vector::from_data(row(numbers), &Device::flex().autodiff());
        Self(case.variables.iter().map(|variable| (variable.name.clone(), param(&variable.value))).collect())
    }

    fn gradients(&self, step: &RecordedStep) -> GradientsParams {
        let pairs = self.0.iter().zip(&step.gradients);
        let given = pairs.fold(Given::default(), |given, ((_, param), gradient)| match gradient {
            Some(RecordedGradient::Dense { dense }) => {
                given.with(param.id, Tensor::<1>::from_data(row(dense), &Device::flex()))
            }
            _ => given,
        });
        given.0
    }

    fn bits(&self) -> Vec<Vec<u32>> {
        self.0.iter().map(|(_, param)| numbers(param).into_iter().map(f32::to_bits).collect()).collect()
    }
}

fn row(numbers: &[f64]) -> TensorData {
    TensorData::new(single(numbers), [numbers.len()])
}

fn single(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|&number| number as f32).collect()
}

/// The same run on plain slices.
struct OnSlices {
    optimizer: DynOptimizer,
    values: Vec<Vec<f32>>,
}

impl OnSlices {
    fn step(&mut self, case: &OptimizerCase, step: &RecordedStep) {
        let gradients: Vec<Option<Vec<f32>>> = step.gradients.iter().map(dense).collect();
        let named = case.variables.iter().zip(&mut self.values).zip(&gradients);
        let variables = named.map(|((variable, value), gradient)| {
            Variable::new(&variable.name, value).optional_gradient(gradient.as_ref().map(Gradient::from))
        });
        self.optimizer.apply_gradients(variables).unwrap();
    }

    fn bits(&self) -> Vec<Vec<u32>> {
        self.values.iter().map(|value| value.iter().map(|number| number.to_bits()).collect()).collect()
    }
}

fn dense(gradient: &Option<RecordedGradient>) -> Option<Vec<f32>> {
    match gradient {
        Some(RecordedGradient::Dense { dense }) => Some(single(dense)),
        _ => None,
    }
}

/// All recorded runs that start from nothing, on one rank, with dense gradients.
fn runs() -> Vec<(String, OptimizerCase)> {
    let mut files: Vec<_> =
        fs::read_dir(opt_conformance::golden_folder()).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let json = files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "json"));
    let cases = json.flat_map(|file| File::read(&file).unwrap().cases).filter_map(|case| match case {
        Case::Optimizer(case) => Some(*case),
        Case::Schedule(_) => None,
    });
    let is_dense = |gradient: &Option<RecordedGradient>| !matches!(gradient, Some(RecordedGradient::Sparse { .. }));
    let is_plain = |case: &OptimizerCase| {
        case.mesh.is_none()
            && case.restore.is_none()
            && case.steps.iter().all(|step| step.gradients.iter().all(is_dense))
    };
    cases.filter(is_plain).map(|case| (case.name.clone(), case)).collect()
}

fn build(case: &OptimizerCase, registry: &Registry<f32>) -> DynOptimizer {
    let mut builder = OptimizerBuilder::from_config(&case.optimizer, registry).unwrap();
    if let Some(excluded) = &case.exclude_from_weight_decay {
        builder = builder.exclude_from_weight_decay(Exclude::patterns(&excluded.var_names));
    }
    builder.build().unwrap()
}

/// What the recorded program called before a step.
fn prepare(optimizer: &mut DynOptimizer, step: &RecordedStep) {
    if let Some(learning_rate) = step.set_learning_rate {
        optimizer.set_learning_rate(learning_rate).unwrap();
    }
    for (group, learning_rate) in &step.set_group_learning_rate {
        optimizer.set_group_learning_rate(group, *learning_rate).unwrap();
    }
    step.freeze.iter().for_each(|group| optimizer.freeze(group).unwrap());
    step.unfreeze.iter().for_each(|group| optimizer.unfreeze(group).unwrap());
}

#[track_caller]
fn assert_recorded(case: &OptimizerCase, step: &RecordedStep, module: &Named) {
    for ((name, param), want) in module.0.iter().zip(&step.expect.variables) {
        for (got, want) in numbers(param).into_iter().zip(want) {
            let close = (f64::from(got) - want).abs() <= case.atol + case.rtol * want.abs();
            assert!(close, "{}: {name}: got {got}, want {want}", case.name);
        }
    }
}

#[test]
fn through_the_adapter() {
    let registry = optimizers::registry();
    let (mut replayed, mut compared) = (0, 0);
    for (name, case) in runs() {
        let mut slices = OnSlices {
            optimizer: build(&case, &registry),
            values: case.variables.iter().map(|variable| single(&variable.value)).collect(),
        };
        let mut module = Named::of(&case);
        let mut optim = BurnOptimizer::from(build(&case, &registry));
        for step in &case.steps {
            prepare(&mut slices.optimizer, step);
            prepare(optim.engine_mut(), step);
            slices.step(&case, step);
            let grads = module.gradients(step);
            module = optim.step(None, module, grads).unwrap_or_else(|error| panic!("{name}: {error}")).module;
            assert_eq!(module.bits(), slices.bits(), "{name}");
            if case.dtype == "float32" {
                assert_recorded(&case, step, &module);
                compared += 1;
            }
        }
        replayed += 1;
    }
    assert!(replayed >= 150 && compared >= 20, "{replayed} runs, {compared} steps in 32 bits");
}

/// Whether a run needs the rule alone, and nothing of the engine.
fn is_rule_alone(case: &OptimizerCase) -> bool {
    const OF_THE_ENGINE: [&str; 10] = [
        "clipnorm",
        "clipvalue",
        "global_clipnorm",
        "use_ema",
        "weight_decay",
        "groups",
        "gradient_accumulation_steps",
        "accumulate",
        "loss_scale_factor",
        "loss_scale",
    ];
    let config = &case.optimizer["config"];
    let is_off = |key: &&str| config[*key].is_null() || config[*key] == false || config[*key] == 0.0;
    let all_have_gradients = case.steps.iter().all(|step| step.gradients.iter().all(Option::is_some));
    OF_THE_ENGINE.iter().all(is_off) && config["inner_optimizer"].is_null() && all_have_gradients
}

/// The rule of a run.
fn rule(case: &OptimizerCase, registry: &Registry<f32>) -> Box<dyn UpdateRule<f32>> {
    let class = case.optimizer["class_name"].as_str().unwrap();
    let mut config = case.optimizer["config"].as_object().unwrap().clone();
    config.retain(|key, value| key != "weight_decay" || !value.is_null());
    registry.rule(&mut registry.fields(class, config)).unwrap()
}

#[test]
fn through_rules_in_burns_optimizer() {
    let registry = optimizers::registry();
    let mut replayed = 0;
    for (name, case) in runs().into_iter().filter(|(_, case)| is_rule_alone(case)) {
        let mut slices = OnSlices {
            optimizer: build(&case, &registry),
            values: case.variables.iter().map(|variable| single(&variable.value)).collect(),
        };
        let mut module = Named::of(&case);
        let mut optim: ModuleOptimizer = Rule::new(rule(&case, &registry)).unwrap().init();
        for step in &case.steps {
            prepare(&mut slices.optimizer, step);
            let rate = slices.optimizer.rule().learning_rate().at(slices.optimizer.iterations());
            slices.step(&case, step);
            let grads = module.gradients(step);
            module = optim.step(rate, module, grads);
            assert_eq!(module.bits(), slices.bits(), "{name}");
        }
        replayed += 1;
    }
    assert!(replayed >= 60, "{replayed} runs");
}
