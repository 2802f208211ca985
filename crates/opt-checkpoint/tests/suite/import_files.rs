//! Imports of small files that Keras, TensorFlow and PyTorch have written: by place, by name, and of the wrong kind.
//!
//! All of them have taken two steps with the gradients 1 and 2, for the variables dense/kernel and dense/bias.

use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use opt_adam::{Adam, AdamW};
use opt_checkpoint::import::{FileKind, ImportOptions, Imported, KerasWeights, TorchState};
use opt_checkpoint::{Checkpoint, Error, Mismatch};
use opt_conformance::problem::Variables;
use opt_core::state::{StateEntry, StateValue};
use opt_core::{Accumulate, Group, LossScale, Optimizer, UpdateRule, Variable};
use opt_nadam::Nadam;
use opt_novograd::NovoGrad;
use opt_radam::RectifiedAdam;
use opt_sgd::Sgd;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/imports/files").join(name)
}

fn keras(name: &str) -> KerasWeights {
    KerasWeights::open(file(name)).unwrap()
}

fn torch(name: &str) -> TorchState {
    TorchState::open(file(name)).unwrap()
}

fn model_of<T: opt_core::Scalar>(names: [&str; 2]) -> Variables<T> {
    let [kernel, bias] = names.map(str::to_owned);
    Variables(vec![(kernel, ArrayD::zeros(IxDyn(&[2, 1]))), (bias, ArrayD::zeros(IxDyn(&[1])))])
}

fn model() -> Variables<f32> {
    model_of(["dense/kernel", "dense/bias"])
}

fn new<R: UpdateRule<f32>>(rule: R) -> Optimizer<R, f32> {
    Optimizer::new(rule).unwrap()
}

/// The state by name, each entry with its first number.
fn state<R: UpdateRule<f32>>(opt: &Optimizer<R, f32>) -> Vec<(String, f64)> {
    opt.weights().into_iter().map(|entry| (entry.name, entry.value.to_f64()[0])).collect()
}

fn named(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
    expected.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
}

/// m and v after the gradients 1 and 2 of each element, in 32 bits.
const M: f64 = 0.290_000_08_f32 as f64;
const V: f64 = 0.004_998_936_f32 as f64;

fn problem(result: Result<Imported, Error>) -> String {
    match result.unwrap_err() {
        Error::Import { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

fn mismatches(result: Result<Imported, Error>) -> Vec<Mismatch> {
    match result.unwrap_err() {
        Error::Mismatch { mismatches, .. } => mismatches,
        other => panic!("{other}"),
    }
}

#[test]
fn the_learning_rate_of_keras_3_is_skipped_and_its_product_is_taken() {
    let mut opt = new(Nadam::keras(0.25));
    let imported = keras("keras3_nadam.npz").load(&mut opt, &mut model()).unwrap();
    assert_eq!(imported.learning_rate, Some(0.5));
    assert_eq!(opt.learning_rate(), 0.25);
    let product = f64::from(0.227_111_01_f32);
    let want = [("iterations", 2.0), ("momentum_cache", product), ("dense/kernel/m", M), ("dense/kernel/v", V)];
    assert_eq!(state(&opt)[..4], named(&want));
    // With a schedule there is no learning rate in the list.
    let mut decayed = new(Nadam::keras(0.25));
    let imported = keras("keras3_nadam_schedule.npz").load(&mut decayed, &mut model()).unwrap();
    assert_eq!((imported.learning_rate, state(&decayed)), (None, state(&opt)));
}

#[test]
fn keras_2_does_not_save_the_product_and_it_is_computed() {
    let mut of_keras3 = new(Nadam::keras(0.5));
    keras("keras3_nadam.npz").load(&mut of_keras3, &mut model()).unwrap();
    let mut opt = new(Nadam::keras(0.5));
    keras("keras2_nadam.npz").load(&mut opt, &mut model()).unwrap();
    let differs = |(a, b): &((String, f64), (String, f64))| (a.1 - b.1).abs() > 1e-6;
    let pairs: Vec<_> = state(&opt).into_iter().zip(state(&of_keras3)).collect();
    assert_eq!(pairs.len(), 6);
    assert_eq!(pairs.into_iter().find(differs), None);
}

/// By the names that each version of Keras gives to its variables; ours have another order here.
#[test]
fn names_of_keras_lead_to_the_same_state_as_places() {
    fn check<R: UpdateRule<f32> + Clone>(rule: &R, files: &[&str]) {
        for name in files {
            let (mut by_place, mut by_name) = (new(rule.clone()), new(rule.clone()));
            keras(&format!("{name}.npz")).load(&mut by_place, &mut model()).unwrap();
            let mut reversed = model();
            reversed.0.reverse();
            keras(&format!("{name}_names.npz")).load(&mut by_name, &mut reversed).unwrap();
            let sorted = |opt: &Optimizer<R, f32>| {
                let mut state = state(opt);
                state.sort_by(|a, b| a.0.cmp(&b.0));
                state
            };
            assert_eq!(sorted(&by_name), sorted(&by_place), "{name}");
        }
    }
    check(&AdamW::new(0.5).amsgrad(true), &["keras2_adamw", "keras3_adamw"]);
    check(&Adam::new(0.5).legacy().amsgrad(true), &["legacy_adam"]);
    check(&Nadam::keras(0.5), &["keras2_nadam", "keras3_nadam"]);
    check(&Nadam::new(0.5), &["legacy_nadam"]);
    check(&RectifiedAdam::new(0.5), &["addons_radam"]);
}

/// The names of `Optimizer::weights`, which the scripts write.
#[test]
fn our_names_are_read() {
    let mut saved = new(Nadam::keras(0.5));
    keras("keras3_nadam.npz").load(&mut saved, &mut model()).unwrap();
    let numbers = |value: &StateValue<'_, f32>| value.to_f64().into_iter().map(|number| number as f32).collect();
    let shape = |value: &StateValue<'_, f32>| match value {
        StateValue::Array(array) => array.shape().to_vec(),
        _ => vec![],
    };
    let arrays = saved
        .weights()
        .into_iter()
        .rev()
        .map(|entry| (entry.name, ArrayD::from_shape_vec(shape(&entry.value), numbers(&entry.value)).unwrap()));
    let weights = KerasWeights::from_named(arrays);
    assert!(weights.has_names());
    let summary = weights.arrays().find(|array| array.name == "dense/kernel/m").unwrap();
    assert_eq!((summary.dtype.as_str(), summary.shape.as_slice()), ("F32", &[2, 1][..]));
    let mut opt = new(Nadam::keras(0.5));
    weights.load(&mut opt, &mut model()).unwrap();
    assert_eq!(opt.weights(), saved.weights());
}

/// Ambiguity is never guessed away: Keras 3 and legacy, for two variables that are single numbers.
#[test]
fn a_list_that_fits_twice_must_be_said() {
    // Keras 3 with a schedule: counter, m, v, m, v, product.
    let numbers = [2.0_f32, 0.25, 0.5, 0.75, 1.0, 0.125].map(|number| ndarray::arr0(number).into_dyn());
    let weights = KerasWeights::from_arrays(numbers);
    let mut variables =
        Variables(vec![("a".to_owned(), ArrayD::zeros(IxDyn(&[]))), ("b".to_owned(), ArrayD::zeros(IxDyn(&[])))]);
    let mut opt = new(Nadam::keras(0.5));
    let said = problem(weights.load(&mut opt, &mut variables));
    assert!(
        said.starts_with("the list could be from Keras up to 2.10 (from_keras_legacy), or Keras 3 (from_keras3)"),
        "{said}"
    );
    weights.clone().from_keras3().load(&mut opt, &mut variables).unwrap();
    let want =
        [("iterations", 2.0), ("momentum_cache", 0.125), ("a/m", 0.25), ("a/v", 0.5), ("b/m", 0.75), ("b/v", 1.0)];
    assert_eq!(state(&opt), named(&want));
    let mut legacy = new(Nadam::new(0.5));
    problem(weights.load(&mut legacy, &mut variables));
    weights.clone().from_keras_legacy().load(&mut legacy, &mut variables).unwrap();
    let want =
        [("iterations", 2.0), ("momentum_cache", 0.25), ("a/m", 0.5), ("b/m", 0.75), ("a/v", 1.0), ("b/v", 0.125)];
    assert_eq!(state(&legacy), named(&want));
}

#[test]
fn lists_of_another_generation_are_refused() {
    let said = problem(keras("legacy_nadam.npz").load(&mut new(Nadam::keras(0.5)), &mut model()));
    assert_eq!(said, "the list is from Keras up to 2.10 (from_keras_legacy), whose dialect is not the optimizer's");
    let said = problem(keras("keras3_nadam.npz").load(&mut new(Nadam::new(0.5)), &mut model()));
    assert_eq!(said, "the list is from Keras 3 (from_keras3), whose dialect is not the optimizer's");
    let said = problem(keras("keras3_nadam.npz").from_keras2().load(&mut new(Nadam::keras(0.5)), &mut model()));
    let names = "iterations, dense/kernel/m, dense/kernel/v, dense/bias/m, dense/bias/v";
    assert_eq!(said, format!("7 arrays, the optimizer has 5: {names}"));
}

/// A list with velocities does not fit an optimizer without momentum, unless Keras 2.11 to 2.15 saved it so.
#[test]
fn momenta_that_the_optimizer_does_not_have_are_refused() {
    let shapes = [vec![], vec![2, 1], vec![1]];
    let weights = KerasWeights::from_arrays(shapes.map(|shape| ArrayD::<f32>::from_elem(shape, 3.0)));
    let said = problem(weights.load(&mut new(Sgd::new(0.5)), &mut model()));
    assert!(said.starts_with("the optimizer has no momentum, and the list has"), "{said}");
    let mut opt = new(Sgd::new(0.5));
    weights.clone().from_keras2().load(&mut opt, &mut model()).unwrap();
    assert_eq!(state(&opt), named(&[("iterations", 3.0)]));
    let said = problem(weights.load(&mut new(Sgd::new(0.5).legacy()), &mut model()));
    assert!(said.starts_with("the list is from Keras 2.11 to 2.15"), "{said}");
}

#[test]
fn prefixes_of_pytorch_are_stripped() {
    let mut model = model_of::<f32>(["dense.kernel", "dense.bias"]);
    let mut opt = new(Nadam::pytorch(0.5));
    let said = problem(torch("torch_nadam.safetensors").load(&mut opt, &mut model));
    let expected =
        "the state is that of other parameters, such as \"module.dense.bias\": rename them, or strip a prefix";
    assert_eq!(said, expected);
    let options = ImportOptions::new().strip_prefix("module.");
    let imported = torch("torch_nadam.safetensors").options(options).load(&mut opt, &mut model).unwrap();
    assert_eq!((opt.iterations(), imported.missing.len(), imported.skipped.len()), (2, 0, 0));
    assert_eq!(opt.slot("dense.bias", "m").unwrap().to_f64(), [f64::from(0.29_f32)]);
    // Our names may be others.
    let mut other = new(Nadam::pytorch(0.5));
    let options = ImportOptions::new().strip_prefix("module.").rename(r"\.", "/").unwrap();
    torch("torch_nadam.safetensors").options(options).load(&mut other, &mut self::model()).unwrap();
    assert_eq!(other.slot("dense/bias", "m").unwrap(), opt.slot("dense.bias", "m").unwrap());
}

/// Which rounding, and where, is said; a number that would become infinite is an error.
#[test]
fn other_types_are_converted_on_request() {
    let options = || ImportOptions::new().strip_prefix("module.");
    let load = |options: ImportOptions, opt: &mut Optimizer<Nadam, f32>| {
        torch("torch_nadam_bf16.safetensors").options(options).load(opt, &mut model_of(["dense.kernel", "dense.bias"]))
    };
    let mut opt = new(Nadam::pytorch(0.5));
    let found = mismatches(load(options(), &mut opt));
    let dtype = Mismatch::DType { name: "dense.kernel/m".into(), expected: "F32".into(), found: "BF16".into() };
    assert_eq!((found.len(), found.contains(&dtype)), (4, true));
    // 0.29 in bfloat16, which is exact in 32 bits.
    let imported = load(options().convert_types(), &mut opt).unwrap();
    assert!(imported.rounded.is_empty());
    assert_eq!(opt.slot("dense.bias", "m").unwrap().to_f64(), [0.289_062_5]);

    let wide = |number: f64| {
        let tensors = [("w".to_owned(), ndarray::arr1(&[number]).into_dyn())];
        let mut w = [0.0_f32];
        let state = TorchState::from_tensors(tensors).options(ImportOptions::new().convert_types());
        let imported = state.load_variables(&mut [Variable::new("w", &mut w)]);
        imported.map(|imported| (w[0], imported.rounded))
    };
    assert_eq!(wide(0.5).unwrap(), (0.5, vec![]));
    assert_eq!(wide(0.1).unwrap(), (0.1_f32, vec!["w".to_owned()]));
    let Error::Mismatch { mismatches, .. } = wide(1e39).unwrap_err() else { panic!() };
    assert_eq!(mismatches, [Mismatch::Overflow { name: "w".into(), number: 1e39, dtype: "F32".into() }]);
}

/// Variables in 16 bits get those of the file; counters of normalisations are accounted for.
#[test]
fn weights_in_16_bits_come_in() {
    let mut kernel = ndarray::Array2::from_elem((2, 1), half::f16::ZERO);
    let mut bias = ndarray::Array1::from_elem(1, half::f16::ZERO);
    let mut model = [Variable::<f32>::half("dense.kernel", &mut kernel), Variable::half("dense.bias", &mut bias)];
    let options = ImportOptions::new().strip_prefix("_orig_mod.");
    let imported = torch("torch_model_f16.safetensors").options(options).load_variables(&mut model).unwrap();
    assert_eq!(imported.loaded, ["dense.kernel", "dense.bias"]);
    assert!(bias[0].to_f32() > 1.0 && bias[0].to_f32() < 3.0, "{bias}");
    let mut wide = model_of::<f32>(["dense.kernel", "dense.bias"]);
    let options = ImportOptions::new().strip_prefix("_orig_mod.").convert_types();
    torch("torch_model_f16.safetensors").options(options).load_variables(&mut wide).unwrap();
    assert_eq!(wide.0[1].1[[0]], bias[0].to_f32());
}

/// A frozen layer has no state in PyTorch. With SGD it starts anew; a rule that counts steps for all variables cannot
/// start it unless that is allowed.
#[test]
fn parameters_without_state_start_anew() {
    let tensors = [("state.a.momentum_buffer".to_owned(), ndarray::arr1(&[0.25_f64]).into_dyn())];
    let state = TorchState::from_tensors(tensors).iterations(7);
    let mut opt = Optimizer::<_, f64>::new(Sgd::pytorch(0.5).momentum(0.5)).unwrap();
    let mut variables = Variables(["a", "b"].map(|name| (name.to_owned(), ArrayD::ones(IxDyn(&[1])))).into());
    let imported = state.load(&mut opt, &mut variables).unwrap();
    assert_eq!((imported.missing, opt.iterations()), (vec!["b/momentum".to_owned()], 7));
    assert_eq!(opt.slot("a", "momentum").unwrap().to_f64(), [0.25]);
    assert_eq!(opt.variables().map(|(name, _)| name).collect::<Vec<_>>(), ["a"], "b gets its slots later");
    // Half of its state is never enough.
    let half = [
        ("state.a.exp_avg".to_owned(), ndarray::arr1(&[0.25_f64]).into_dyn()),
        ("state.a.step".to_owned(), ndarray::arr0(3.0).into_dyn()),
    ];
    let mut radam = Optimizer::<_, f64>::new(RectifiedAdam::pytorch(0.5)).unwrap();
    variables.0.truncate(1);
    let options = ImportOptions::new().allow_missing();
    let found = mismatches(TorchState::from_tensors(half).options(options).load(&mut radam, &mut variables));
    assert_eq!(found, [Mismatch::Missing { name: "a/v".to_owned() }]);
}

/// timm counts the steps of each parameter, and no number depends on them.
#[test]
fn counters_may_differ_where_they_do_not_matter() {
    let number = |name: &str, number: f64| (format!("state.{name}"), ndarray::arr0(number).into_dyn());
    let moment = |name: &str| (format!("state.{name}.exp_avg"), ndarray::arr1(&[0.25]).into_dyn());
    let of = |name: &str, steps: f64| {
        [number(&format!("{name}.step"), steps), number(&format!("{name}.exp_avg_sq"), 0.5), moment(name)]
    };
    let state = TorchState::from_tensors(of("a", 9.0).into_iter().chain(of("b", 4.0)));
    let mut variables = Variables(["a", "b"].map(|name| (name.to_owned(), ArrayD::ones(IxDyn(&[1])))).into());
    let mut opt = Optimizer::<_, f64>::new(NovoGrad::nvidia(0.5)).unwrap();
    state.load(&mut opt, &mut variables).unwrap();
    assert_eq!(opt.iterations(), 9);
    let said = problem(state.iterations(10).load(&mut opt, &mut variables));
    assert_eq!(said, "9 steps had been taken, not 10");
}

/// Keras 3 writes `_` for `/`.
#[test]
fn an_array_belongs_to_one_variable() {
    let arrays = [("sgd/iteration", vec![]), ("sgd/a_b_c_momentum", vec![1])];
    let arrays = arrays.map(|(name, shape)| (name.to_owned(), ArrayD::<f32>::ones(shape)));
    let weights = KerasWeights::from_named(arrays);
    let mut one = Variables(vec![("a/b_c".to_owned(), ArrayD::zeros(IxDyn(&[1])))]);
    weights.load(&mut new(Sgd::new(0.5).momentum(0.5)), &mut one).unwrap();
    let mut two = one.clone();
    two.0.push(("a_b/c".to_owned(), ArrayD::zeros(IxDyn(&[1]))));
    let said = problem(weights.load(&mut new(Sgd::new(0.5).momentum(0.5)), &mut two));
    assert_eq!(said, "\"sgd/a_b_c_momentum\" could belong to two variables");
}

#[test]
fn missing_state_of_keras_is_allowed_on_request() {
    let mut model = model();
    model.0.push(("frozen".to_owned(), ArrayD::from_elem(IxDyn(&[2]), 5.0)));
    let mut opt = Optimizer::builder(Nadam::keras(0.5)).build().unwrap();
    let found = mismatches(keras("keras2_nadam_names.npz").load(&mut opt, &mut model));
    assert_eq!(found, ["frozen/m", "frozen/v"].map(|name| Mismatch::Missing { name: name.to_owned() }));
    let options = ImportOptions::new().allow_missing();
    let imported = keras("keras2_nadam_names.npz").options(options).load(&mut opt, &mut model).unwrap();
    assert_eq!(imported.missing, ["frozen/m", "frozen/v"]);
    assert!(opt.variables().all(|(name, _)| name != "frozen"), "its slots come with its first gradient");
}

#[test]
fn tensors_that_nobody_asked_for_are_refused_or_skipped() {
    let tensors = || {
        [("w", 1.0_f64), ("ghost", 2.0)].map(|(name, number)| (name.to_owned(), ndarray::arr1(&[number]).into_dyn()))
    };
    let mut w = [0.0_f64];
    let found = mismatches(TorchState::from_tensors(tensors()).load_variables(&mut [Variable::new("w", &mut w)]));
    assert_eq!((found, w), (vec![Mismatch::Unexpected { name: "ghost".to_owned() }], [0.0]));
    let state = TorchState::from_tensors(tensors()).options(ImportOptions::new().allow_unexpected());
    let imported = state.load_variables(&mut [Variable::new("w", &mut w)]).unwrap();
    assert_eq!((imported.skipped, w), (vec!["ghost".to_owned()], [1.0]));
    let found = mismatches(KerasWeights::from_named(tensors()).load_variables(&mut [Variable::new("w", &mut w)]));
    assert_eq!(found, [Mismatch::Unexpected { name: "ghost".to_owned() }]);
}

/// The other entries stay as they are.
#[test]
fn a_part_of_the_state_comes_in() {
    let mut opt = new(Nadam::keras(0.5));
    let options = ImportOptions::new().only("^dense/kernel/").unwrap();
    let mut model = model();
    let imported = keras("keras3_nadam_names.npz").options(options).load(&mut opt, &mut model).unwrap();
    assert_eq!((imported.loaded.len(), imported.kept.len()), (2, 4));
    assert_eq!(imported.skipped.len(), 4);
    let want = [("iterations", 0.0), ("momentum_cache", 1.0), ("dense/kernel/m", M), ("dense/kernel/v", V)];
    assert_eq!(state(&opt), named(&want), "no slots for the bias");
}

#[test]
fn the_dialect_is_checked() {
    let said = problem(torch("torch_nadam.safetensors").load(&mut new(Sgd::new(0.5).momentum(0.5)), &mut model()));
    assert!(said.contains("PyTorch's"), "{said}");
    let weights = KerasWeights::from_arrays([ndarray::arr0(1.0_f32).into_dyn()]);
    let said = problem(weights.load(&mut new(Sgd::pytorch(0.5).momentum(0.5)), &mut model()));
    assert!(said.contains("Keras's"), "{said}");
    // One setting of a dialect by itself.
    let outside = Sgd::new(0.5).momentum(0.5).learning_rate_outside(true);
    let said = problem(weights.load(&mut new(outside), &mut model()));
    assert!(said.contains("contains the learning rate"), "{said}");
}

/// Other libraries keep neither micro-steps nor a loss scale with the state: both start anew.
#[test]
fn accumulation_and_a_loss_scale_start_anew() {
    let scale = LossScale::dynamic().initial(8.0);
    let plain = new(Nadam::pytorch(0.5));
    let mut opt =
        Optimizer::builder(Nadam::pytorch(0.5)).accumulate(Accumulate::mean(2)).loss_scale(scale).build().unwrap();
    let (mut imported, mut want) = (model(), model());
    let options = || ImportOptions::new().strip_prefix("module.").rename(r"\.", "/").unwrap();
    torch("torch_nadam.safetensors").options(options()).load(&mut opt, &mut imported).unwrap();
    let mut plain = plain;
    torch("torch_nadam.safetensors").options(options()).load(&mut plain, &mut want).unwrap();
    assert_eq!((opt.iterations(), opt.micro_step(), opt.loss_scale()), (plain.iterations(), 0, 8.0));
    let slots = |weights: Vec<StateEntry<StateValue<'static, f32>>>| {
        weights.into_iter().filter(|weight| weight.variable.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(slots(opt.weights()), slots(plain.weights()));
}

#[test]
fn groups_with_rules_of_their_own_import_nothing() {
    let group = Group::matching("bias$").rule(Sgd::pytorch(0.5).momentum(0.5)).named("biases");
    let mut opt = Optimizer::builder(Nadam::pytorch(0.5)).group(group).build().unwrap();
    let said = problem(torch("torch_nadam.safetensors").load(&mut opt, &mut model()));
    assert!(said.contains("group \"biases\" has a rule of its own"), "{said}");
}

/// Both importers name what they were given, and what to do with it.
#[test]
fn other_kinds_of_files_are_named() {
    let kinds = [
        ("model.keras", FileKind::KerasArchive, "this is a .keras file", "interop/keras_to_npz.py"),
        ("model.h5", FileKind::Hdf5, "this is an HDF5 file", "interop/keras_to_npz.py"),
        ("optimizer.pt", FileKind::TorchArchive, "this is a .pt file of PyTorch", "interop/torch_to_safetensors.py"),
        ("optimizer_old.pt", FileKind::Pickle, "this is a pickle", "interop/torch_to_safetensors.py"),
        ("tensorflow", FileKind::TensorFlowCheckpoint, "this is a checkpoint of TensorFlow", "interop/keras_to_npz.py"),
        ("tensorflow/ckpt", FileKind::TensorFlowCheckpoint, "this is a checkpoint of TensorFlow", "without .index"),
        (
            "tensorflow/ckpt.index",
            FileKind::TensorFlowCheckpoint,
            "this is a checkpoint of TensorFlow",
            "without .index",
        ),
        (
            "tensorflow/ckpt.data-00000-of-00001",
            FileKind::TensorFlowCheckpoint,
            "this is a checkpoint of TensorFlow",
            "without .index",
        ),
        ("../keras.json", FileKind::Json, "this is a JSON file", "Optimizer::from_config"),
    ];
    for (name, kind, what, advice) in kinds {
        assert_eq!(FileKind::of(file(name)).unwrap(), kind, "{name}");
        let refused = [KerasWeights::open(file(name)).map(drop), TorchState::open(file(name)).map(drop)];
        for error in refused.map(|refused| refused.unwrap_err().to_string()) {
            assert!(error.contains(what) && error.contains(advice), "{error}");
        }
    }
    let error = KerasWeights::open(file("torch_nadam.safetensors")).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "this is a safetensors file, not an .npz file of NumPy: load it with \
        TorchState::open(path)?.load(...), or load_variables"
        ),
        "{error}"
    );
    let error = TorchState::open(file("keras2_nadam.npz")).unwrap_err().to_string();
    assert!(error.contains("this is an .npz file of NumPy") && error.contains("KerasWeights::open"), "{error}");
}

#[test]
fn folders_and_our_own_checkpoints_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    let mut w = [1.0_f64];
    let mut opt = Optimizer::new(Sgd::new(0.5)).unwrap();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    opt_checkpoint::save(&path, &opt, &[Variable::new("w", &mut w)]).unwrap();
    Checkpoint::open(&path).unwrap();
    let error = TorchState::open(&path).unwrap_err().to_string();
    assert!(error.contains("this is a checkpoint of this library") && error.contains("Checkpoint::open"), "{error}");
    std::fs::write(folder.path().join("saved_model.pb"), b"").unwrap();
    let error = KerasWeights::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("this is a SavedModel of TensorFlow"), "{error}");
    for (bytes, kind) in
        [(&b""[..], FileKind::Unknown), (b"PK\x03\x04", FileKind::Unknown), (b"\x93NUMPY\x01", FileKind::Npy)]
    {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(FileKind::of(&path).unwrap(), kind);
    }
}
