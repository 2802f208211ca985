//! Gradients and variables that share memory, panics, other threads: no deadlock, and no lost numbers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Optimizer as _, VarMap};
use opt_candle::{CandleOptimizer, Error};
use optimizers::rule::{Block, Done, Kernel, SlotSpec, Step, VariableScalars, VariableStep};
use optimizers::{Hyper, Nadam, Optimizer, Scalar, Sgd, UpdateRule, hyperparameters};

const CPU: Device = Device::Cpu;

/// Runs a test on another thread, and fails if it hangs.
fn within_a_minute<X: Send + 'static>(test: impl FnOnce() -> X + Send + 'static) -> X {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(test()));
    receiver.recv_timeout(Duration::from_secs(60)).expect("no deadlock and no panic")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn gradients_that_share_memory_with_variables_are_copied() {
    let (moved, copies) = within_a_minute(|| {
        let [a, b] = [[1.0_f32, 2.0], [3.0, 4.0]].map(|values| Var::new(&values, &CPU).unwrap());
        let named = [("a", a.clone()), ("b", b.clone())];
        let mut opt = CandleOptimizer::from_named(named, Optimizer::builder(Sgd::new(0.5))).unwrap();
        let mut grads = GradStore::default();
        // Its own memory, and that of another variable, backwards.
        grads.insert(&a, a.as_detached_tensor());
        grads.insert(&b, a.as_detached_tensor().narrow(0, 0, 1).unwrap().broadcast_as(2).unwrap());
        opt.step(&grads).unwrap();
        ((values(&a), values(&b)), opt.copies())
    });
    assert_eq!(moved, (vec![0.5, 1.0], vec![2.5, 3.5]));
    assert_eq!((copies.shared_gradients, copies.bytes_to_host, copies.bytes_to_device), (2, 0, 0));
}

#[test]
fn gradients_may_share_memory_with_each_other() {
    let moved = within_a_minute(|| {
        let [a, b] = [(); 2].map(|()| Var::zeros(2, DType::F32, &CPU).unwrap());
        let named = [("a", a.clone()), ("b", b.clone())];
        let mut opt = CandleOptimizer::from_named(named, Optimizer::builder(Sgd::new(1.0))).unwrap();
        let gradient = Tensor::new(&[1.0_f32, 2.0], &CPU).unwrap();
        let mut grads = GradStore::default();
        grads.insert(&a, gradient.clone());
        grads.insert(&b, gradient);
        opt.step(&grads).unwrap();
        (values(&a), values(&b), opt.copies().shared_gradients)
    });
    assert_eq!(moved, (vec![-1.0, -2.0], vec![-1.0, -2.0], 0));
}

#[test]
fn a_variable_is_listed_once() {
    let w = Var::new(&[1.0_f32], &CPU).unwrap();
    for names in [["first", "second"], ["same", "same"]] {
        let named = names.map(|name| (name, w.clone()));
        match CandleOptimizer::from_named(named, Optimizer::builder(Sgd::new(1.0))) {
            Err(Error::SameVariable { first, second }) => assert_eq!([first, second], names),
            other => panic!("{other:?}"),
        }
    }
    let map = VarMap::new();
    for name in ["embedding", "output"] {
        map.data().lock().unwrap().insert(name.to_owned(), w.clone());
    }
    let tied = CandleOptimizer::from_varmap(&map, Optimizer::builder(Sgd::new(1.0))).map(drop);
    assert_eq!(tied.unwrap_err().to_string(), r#""embedding" and "output" are the same variable: list it once"#);
    let listed = CandleOptimizer::<Sgd>::new(vec![w.clone(), w.clone()], Optimizer::builder(Sgd::new(1.0)));
    assert!(listed.is_err());

    let other = Var::new(&[1.0_f32], &CPU).unwrap();
    let twice = CandleOptimizer::from_named([("w", w), ("w", other)], Optimizer::builder(Sgd::new(1.0))).map(drop);
    assert!(matches!(twice, Err(Error::Engine(optimizers::Error::DuplicateVariable { .. }))), "{twice:?}");
}

#[test]
fn other_variables_are_refused_when_the_optimizer_is_made() {
    let builder = || Optimizer::builder(Sgd::new(1.0));
    let make = |var: Var| CandleOptimizer::from_named([("w", var)], builder()).map(drop);
    for dtype in [DType::U32, DType::I64, DType::F64] {
        let refused = make(Var::zeros(2, dtype, &CPU).unwrap()).unwrap_err();
        assert!(matches!(refused, Error::VariableType { found, .. } if found == dtype), "{refused}");
    }
    let refused = make(Var::zeros(2, DType::U32, &CPU).unwrap()).unwrap_err();
    let expected = r#"variable "w" is in U32: an optimizer in F32 trains [F32, BF16, F16]"#;
    assert_eq!(refused.to_string(), expected);
    // candle's own optimizers leave these out.
    let whole = vec![Var::zeros(2, DType::U32, &CPU).unwrap(), Var::zeros(2, DType::F32, &CPU).unwrap()];
    let left = CandleOptimizer::<Sgd>::new(whole, builder()).unwrap();
    assert_eq!(left.variables().count(), 1);
    let none = CandleOptimizer::from_varmap(&VarMap::new(), builder());
    assert!(matches!(none, Err(Error::NoVariables)), "{none:?}");
}

hyperparameters! {
    /// SGD that panics at the variable `b` while the switch is on.
    #[derive(Debug, Clone)]
    struct Panicking {
        learning_rate: Hyper = 1.0, in 0.0.., "learning rate";
    }
    rule "Panicking"
}

static PANICS: AtomicBool = AtomicBool::new(false);

struct PanickingKernel<'k, T>(Box<dyn Kernel<T> + 'k>);

impl<T: Scalar> Kernel<T> for PanickingKernel<'_, T> {
    fn begin_variable(&self, variable: &VariableStep<'_>, scalars: &mut [f64]) -> VariableScalars {
        assert!(variable.name != "b" || !PANICS.load(Ordering::SeqCst), "as the test wants it");
        self.0.begin_variable(variable, scalars)
    }

    fn update(&self, block: Block<'_, T>) -> Done {
        self.0.update(block)
    }

    fn visits_untouched_rows(&self) -> bool {
        false
    }
}

static SGD: std::sync::LazyLock<Sgd> = std::sync::LazyLock::new(|| Sgd::new(1.0));

impl<T: Scalar> UpdateRule<T> for Panicking {
    fn slots(&self) -> Vec<SlotSpec> {
        UpdateRule::<T>::slots(&*SGD)
    }

    fn begin_step(&self, step: &Step, shared: &mut [f64]) -> Box<dyn Kernel<T>> {
        Box::new(PanickingKernel(SGD.begin_step(step, shared)))
    }
}

#[test]
fn a_panic_leaves_whole_variables_and_a_poisoned_optimizer() {
    let vars = [("a", 1.0_f32), ("b", 2.0), ("c", 3.0)].map(|(name, value)| (name, Var::new(value, &CPU).unwrap()));
    let all = || vars.iter().map(|(_, var)| var.to_scalar::<f32>().unwrap()).collect::<Vec<_>>();
    let mut opt = CandleOptimizer::from_named(vars.clone(), Optimizer::builder(Panicking::default())).unwrap();
    let loss = || vars.iter().map(|(_, var)| var.as_tensor().clone()).reduce(|a, b| (a + b).unwrap()).unwrap();
    let loss = loss();
    opt.backward_step(&loss).unwrap();
    assert_eq!(all(), [0.0, 1.0, 2.0]);

    PANICS.store(true, Ordering::SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| opt.backward_step(&loss))).is_err());
    PANICS.store(false, Ordering::SeqCst);
    assert_eq!(all(), [-1.0, 1.0, 2.0], "the first variable was updated, and all of them have their numbers");
    let refused = opt.backward_step(&loss);
    assert!(matches!(refused, Err(Error::Engine(optimizers::Error::Poisoned))), "{refused:?}");
}

#[test]
fn a_panic_while_variables_are_lent_gives_them_back() {
    let vars = [("a", Var::new(1.0_f32, &CPU).unwrap()), ("b", Var::zeros((0, 2), DType::F16, &CPU).unwrap())];
    let mut opt = CandleOptimizer::from_named(vars.clone(), Optimizer::builder(Sgd::new(1.0))).unwrap();
    let lend = || opt.with_variables(|_, _| -> Result<(), Error> { panic!("as the test wants it") });
    assert!(catch_unwind(AssertUnwindSafe(lend)).is_err());
    assert_eq!(vars[0].1.to_scalar::<f32>().unwrap(), 1.0);
    let refused = opt.with_variables(|_, _| Err::<(), _>(Error::NoVariables));
    assert!(matches!(refused, Err(Error::NoVariables)));
    assert_eq!((vars[0].1.to_scalar::<f32>().unwrap(), vars[1].1.elem_count()), (1.0, 0));
}

/// Steps lock one variable at a time, and saving only reads: readers that hold one lock and wait for another are no
/// deadlock. They see each variable before or after a step, never in the middle of one: all of its numbers are the
/// same, and fall from step to step.
#[test]
fn other_threads_may_read_meanwhile() {
    within_a_minute(|| {
        let len = |i: usize| if i == 7 { 300_000 } else { 20_000 };
        let vars: Vec<Var> = (0..20).map(|i| Var::zeros(len(i), DType::F32, &CPU).unwrap()).collect();
        let named = vars.iter().enumerate().map(|(i, var)| (format!("{i}"), var.clone()));
        let mut opt = CandleOptimizer::from_named(named, Optimizer::builder(Nadam::new(0.01))).unwrap();
        let mut grads = GradStore::default();
        vars.iter().for_each(|var| drop(grads.insert(var, var.ones_like().unwrap())));
        let (done, folder) = (AtomicBool::new(false), tempfile::tempdir().unwrap());
        let read = || {
            let mut last = vec![0.0; vars.len()];
            while !done.load(Ordering::SeqCst) {
                for (i, var) in vars.iter().enumerate() {
                    let both =
                        (var.as_tensor() + vars[if i == 7 { 7 } else { 8 }].narrow(0, 0, len(i)).unwrap()).unwrap();
                    assert_eq!(both.elem_count(), len(i));
                    let numbers = values(var);
                    assert!(numbers.iter().all(|number| *number == numbers[0]) && numbers[0] <= last[i], "{i}");
                    last[i] = numbers[0];
                }
            }
        };
        thread::scope(|scope| {
            let reader = scope.spawn(read);
            for step in 0..100 {
                assert!(opt.step(&grads).unwrap().is_applied());
                if step % 20 == 0 {
                    opt.save(folder.path().join("checkpoint")).unwrap();
                }
            }
            done.store(true, Ordering::SeqCst);
            reader.join().expect("the reader has seen nothing else");
        });
        assert!(values(&vars[0])[0] < -0.5);
    });
}
