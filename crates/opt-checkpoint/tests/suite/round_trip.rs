//! Round trips: saved state is restored in new optimizers, in other memory orders, and by other readers.

use ndarray::{Array2, ArrayViewD, array};
use opt_checkpoint::{Checkpoint, Contents, Element, Progress, SaveOptions, save};
use opt_core::state::StateValue;
use opt_core::{Ema, Optimizer, OptimizerBuilder, UpdateRule, Variable};
use opt_sgd::Sgd;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::run::{builder, bytes, checkpoint, novograd, problem, saved, trained};

/// Whether a training that is stopped at each step resumes bit for bit.
fn continues<R: UpdateRule<T>, T: Element>(make: impl Fn() -> OptimizerBuilder<R, T>) {
    let problem = problem();
    let last = problem.steps.len();
    let (whole, want) = trained(make(), last);
    for stop in 0..=last {
        let (first, variables) = trained(make(), stop);
        let file = bytes(SaveOptions::new(), &first, &variables);
        let (mut second, mut variables) = (make().build().unwrap(), problem.start());
        let loaded = Checkpoint::from_bytes(file).unwrap().load(&mut second, &mut variables).unwrap();
        assert_eq!((loaded.iterations, loaded.configuration_compared), (stop as u64, true));
        for number in stop..last {
            problem.step(number, &mut second, &mut variables).unwrap();
        }
        assert_eq!(variables.bits(), want.bits(), "stopped at {stop}");
        assert_eq!(second.weights(), whole.weights(), "stopped at {stop}");
    }
}

#[test]
fn a_training_goes_on_from_every_step() {
    continues(builder::<f32>);
    continues(builder::<f64>);
    continues(novograd::<f32>);
    continues(novograd::<f64>);
}

#[test]
fn what_was_there_before_is_forgotten() {
    let (mut other, mut variables) = trained(builder::<f32>(), 9);
    let (want, _) = trained(builder::<f32>(), 5);
    let mut fresh = [0.0_f32; 3];
    other.add_variables(&mut [Variable::new("another", &mut fresh)]).unwrap();
    checkpoint().load(&mut other, &mut variables).unwrap();
    assert_eq!(other.weights(), want.weights());
    assert_eq!(variables, trained(builder::<f32>(), 5).1);
}

#[test]
fn every_bit_of_a_number_comes_back() {
    let odd = [f32::NAN.to_bits() | 1, (-0.0_f32).to_bits(), f32::INFINITY.to_bits(), 1, u32::MAX];
    let mut w = odd.map(f32::from_bits);
    let opt = Optimizer::new(Sgd::new(0.1)).unwrap();
    let mut file = std::io::Cursor::new(Vec::new());
    SaveOptions::new().write(&mut file, &opt, &[Variable::new("w", &mut w)]).unwrap();
    let mut w = [0.0_f32; 5];
    let checkpoint = Checkpoint::from_bytes(file.into_inner()).unwrap();
    checkpoint.load_variables(&mut [Variable::new("w", &mut w)]).unwrap();
    assert_eq!(w.map(f32::to_bits), odd);
}

/// Without `float_roundtrip` a tenth of all numbers would be read with different bits; this is one of them.
#[test]
fn the_configuration_comes_back_to_the_bit() {
    let learning_rate: f64 = 0.052_087_441_512_012_604;
    let (mut w, opt) = ([1.0_f32], Optimizer::new(Sgd::new(learning_rate)).unwrap());
    let mut file = std::io::Cursor::new(Vec::new());
    SaveOptions::new().write(&mut file, &opt, &[Variable::new("w", &mut w)]).unwrap();
    let checkpoint = Checkpoint::from_bytes(file.into_inner()).unwrap();
    let built: Optimizer<_, f32> = checkpoint.optimizer(&optimizers::registry()).unwrap();
    assert_eq!(built.learning_rate().to_bits(), learning_rate.to_bits());
}

#[test]
fn memory_order_is_no_part_of_the_file() {
    let gradient = Array2::from_shape_fn((4, 3), |(i, j)| (i * 3 + j) as f64);
    let run = |mut w: Array2<f64>| {
        let mut opt = Optimizer::new(Sgd::new(0.5).momentum(0.5)).unwrap();
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&gradient)]).unwrap();
        let mut file = std::io::Cursor::new(Vec::new());
        SaveOptions::new().write(&mut file, &opt, &[Variable::new("w", &mut w)]).unwrap();
        file.into_inner()
    };
    let rows = run(Array2::ones((4, 3)));
    assert_eq!(rows, run(Array2::ones((3, 4)).reversed_axes()));

    let mut transposed = Array2::<f64>::zeros((3, 4)).reversed_axes();
    let mut opt = Optimizer::new(Sgd::new(0.5).momentum(0.5)).unwrap();
    let checkpoint = Checkpoint::from_bytes(rows).unwrap();
    checkpoint.load(&mut opt, &mut [Variable::new("w", &mut transposed)]).unwrap();
    assert_eq!(transposed, 1.0 - 0.5 * &gradient);
    assert_eq!(opt.weights()[1].value, StateValue::from((-0.5 * &gradient).into_dyn()));
}

/// More elements than are processed at a time, and not a multiple of that number.
#[test]
fn large_arrays_come_back() {
    let start = Array2::from_shape_fn((300, 1_001), |(i, j)| (i * 1_001 + j) as f32);
    for mut w in [start.clone(), start.clone().reversed_axes(), start.slice(ndarray::s![..;-1, ..;2]).to_owned()] {
        let want = w.clone();
        let (opt, folder) = (Optimizer::new(Sgd::new(0.5)).unwrap(), tempfile::tempdir().unwrap());
        let path = folder.path().join("a");
        save(&path, &opt, &[Variable::new("w", &mut w)]).unwrap();
        w.fill(0.0);
        Checkpoint::open(&path).unwrap().load_variables(&mut [Variable::new("w", &mut w)]).unwrap();
        assert_eq!(w, want);
    }
}

#[test]
fn the_library_of_safetensors_reads_it() {
    let (optimizer, variables) = trained(builder::<f32>(), 5);
    let file = bytes(SaveOptions::new(), &optimizer, &variables);
    let read = SafeTensors::deserialize(&file).unwrap();
    let iterations = read.tensor("iterations").unwrap();
    assert_eq!(
        (iterations.dtype(), iterations.shape(), iterations.data()),
        (Dtype::U64, &[][..], &5_u64.to_le_bytes()[..])
    );
    assert_eq!(read.tensor("momentum_cache").unwrap().dtype(), Dtype::F64);
    let numbers =
        |array: ArrayViewD<'_, f32>| array.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    for (name, value) in &variables.0 {
        let tensor = read.tensor(name).unwrap();
        assert_eq!(
            (tensor.dtype(), tensor.shape(), tensor.data().to_vec()),
            (Dtype::F32, value.shape(), numbers(value.view()))
        );
    }
    for weight in optimizer.weights() {
        if let StateValue::Array(array) = weight.value {
            assert_eq!(read.tensor(&weight.name).unwrap().data(), numbers(array.view()), "{}", weight.name);
        }
    }
    assert_eq!(read.len(), variables.0.len() + optimizer.weights().len());
}

#[test]
fn the_same_training_gives_the_same_bytes() {
    assert_eq!(saved(), saved());
}

#[test]
fn a_file_says_what_it_is() {
    let (optimizer, variables) = trained(builder::<f32>(), 5);
    let extra = json!({"epoch": 3, "random": u64::MAX, "losses": [0.1, 0.052_087_441_512_012_604]});
    let options = SaveOptions::new().extra(extra.clone());
    let checkpoint = Checkpoint::from_bytes(bytes(options, &optimizer, &variables)).unwrap();
    assert_eq!(checkpoint.contents(), Contents::Raw);
    assert_eq!(checkpoint.config(), Some(&optimizer.to_config().unwrap()));
    assert_eq!(checkpoint.extra(), &extra);
    assert_eq!(checkpoint.iterations().unwrap(), 5);
    let names: Vec<&String> = variables.0.iter().map(|(name, _)| name).collect();
    assert_eq!(checkpoint.variables().iter().collect::<Vec<_>>(), names);
    let counter = checkpoint.tensors().find(|tensor| tensor.name == "iterations").unwrap();
    assert_eq!(
        (counter.dtype.as_str(), counter.shape, counter.pieces[0].bytes.end - counter.pieces[0].bytes.start),
        ("U64", vec![], 8)
    );
}

/// As the README shows for readers without this library.
#[test]
fn the_checksum_of_the_header_is_where_the_documents_say() {
    let mut file = saved();
    let end = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let digits = String::from_utf8(file[59..75].to_vec()).unwrap();
    file[59..75].fill(b'0');
    assert_eq!(digits, format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&file[..end])));
}

#[test]
fn averages_and_slow_weights_can_be_saved_for_evaluation() {
    let (optimizer, variables) = trained(builder::<f32>(), 5);
    for (contents, slot) in [(Contents::Averaged, Ema::SLOT), (Contents::Slow, "slow")] {
        let options = SaveOptions::new().contents(contents);
        let checkpoint = Checkpoint::from_bytes(bytes(options, &optimizer, &variables)).unwrap();
        assert_eq!((checkpoint.contents(), checkpoint.iterations().unwrap()), (contents, 5));
        assert_eq!(checkpoint.tensors().count(), variables.0.len() + 1);
        let mut loaded = problem().start::<f32>();
        checkpoint.load_variables(&mut loaded).unwrap();
        for (name, value) in &loaded.0 {
            assert_eq!(
                optimizer.slot(name, slot).unwrap(),
                opt_core::state::StateValue::from(value.view()),
                "{slot} of {name}"
            );
        }
    }
}

#[test]
fn progress_is_told() {
    let (optimizer, mut variables) = trained(builder::<f32>(), 5);
    let check = |seen: &[Progress]| {
        let last = seen[seen.len() - 1];
        assert_eq!(last.done, last.total);
        assert!(seen.is_sorted_by(|a, b| a.done < b.done && a.total == b.total), "{seen:?}");
    };
    let mut seen = Vec::new();
    let file = bytes(SaveOptions::new().observer(|progress| seen.push(progress)), &optimizer, &variables);
    check(&seen);
    let checkpoint = Checkpoint::from_bytes(file).unwrap();
    let mut seen = Vec::new();
    checkpoint.verify_observed(|progress| seen.push(progress)).unwrap();
    check(&seen);
    let (mut seen, mut fresh) = (Vec::new(), builder::<f32>().build().unwrap());
    let options = opt_checkpoint::LoadOptions::new().observer(|progress| seen.push(progress));
    options.load(&checkpoint, &mut fresh, &mut variables).unwrap();
    check(&seen);
}

#[test]
fn a_variable_may_come_later_than_others() {
    let (mut a, mut b) = (array![1.0, 2.0], array![3.0]);
    let mut opt = Optimizer::new(Sgd::new(0.5).momentum(0.5)).unwrap();
    opt.apply_gradients([Variable::new("a", &mut a).gradient(&[1.0, 1.0])]).unwrap();
    let mut file = std::io::Cursor::new(Vec::new());
    let both = [Variable::new("b", &mut b), Variable::new("a", &mut a)];
    SaveOptions::new().write(&mut file, &opt, &both).unwrap();
    let (mut a, mut b) = (array![0.0, 0.0], array![0.0]);
    let mut second = Optimizer::new(Sgd::new(0.5).momentum(0.5)).unwrap();
    let checkpoint = Checkpoint::from_bytes(file.into_inner()).unwrap();
    checkpoint.load(&mut second, &mut [Variable::new("a", &mut a), Variable::new("b", &mut b)]).unwrap();
    assert_eq!((a[0], b[0]), (0.5, 3.0));
    assert_eq!(second.variables().collect::<Vec<_>>(), [("a", &[2][..])]);
}
