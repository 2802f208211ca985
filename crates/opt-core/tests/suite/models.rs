//! Models as sources of named variables, and their gradients.

use std::collections::{BTreeMap, HashMap};

use ndarray::{ArrayD, IxDyn};
use opt_core::model::{Any, Path};
use opt_core::{Error, Gradient, Gradients, IndexedSlices, NonFinite, Optimizer, Parameters, Variable, ViewMut};
use opt_sgd::Sgd;

/// Numbers by name, in any order.
#[derive(Debug, PartialEq)]
struct Named(Vec<(&'static str, ArrayD<f64>)>);

impl Named {
    fn new(numbers: &[(&'static str, f64)]) -> Self {
        Self(numbers.iter().map(|&(name, number)| (name, ArrayD::from_elem(IxDyn(&[1]), number))).collect())
    }
}

impl Gradients<f64> for Named {
    fn visit<'a>(&'a self, path: &Path<'_>, visit: &mut dyn FnMut(String, Gradient<'a, f64>)) {
        self.0.iter().for_each(|(name, array)| array.visit(&path.field(name), visit));
    }
}

impl Parameters<f64> for Named {
    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, visit: &mut dyn FnMut(String, ViewMut<'a, f64>)) {
        self.0.iter_mut().for_each(|(name, array)| array.visit_mut(&path.field(name), visit));
    }
}

fn stepped(gradients: &[(&'static str, f64)]) -> Result<Named, Error> {
    let mut model = Named::new(&[("a", 1.0), ("b", 2.0), ("c", 3.0)]);
    let mut opt = Optimizer::new(Sgd::new(1.0))?;
    opt.minimize(&mut model, |_| ((), Named::new(gradients)))?;
    Ok(model)
}

#[test]
fn gradients_are_matched_by_name() {
    let all = Named::new(&[("a", 0.5), ("b", 1.0), ("c", 1.5)]);
    assert_eq!(stepped(&[("a", 0.5), ("b", 1.0), ("c", 1.5)]), Ok(all));
    let all = Named::new(&[("a", 0.5), ("b", 1.0), ("c", 1.5)]);
    assert_eq!(stepped(&[("c", 1.5), ("a", 0.5), ("b", 1.0)]), Ok(all));
    assert_eq!(stepped(&[("b", 1.0)]), Ok(Named::new(&[("a", 1.0), ("b", 1.0), ("c", 3.0)])));
    let same_count = stepped(&[("a", 0.5), ("x", 1.0), ("d", 1.5)]);
    assert_eq!(same_count, Err(Error::UnknownGradient { name: "d".into() }));
    let one_more = stepped(&[("a", 0.5), ("b", 1.0), ("c", 1.5), ("d", 2.0)]);
    assert_eq!(one_more, same_count);
    let twice = stepped(&[("a", 0.5), ("a", 1.0), ("b", 1.5)]);
    assert_eq!(twice, Err(Error::DuplicateGradient { name: "a".into() }));
    assert_eq!(stepped(&[]), Err(Error::NoGradients { variables: 3 }));
}

/// Parts of a model may be absent, and gradients may be rows.
#[test]
fn parts_are_stepped_if_they_are_there() {
    let mut model = (Some(ArrayD::<f64>::ones(IxDyn(&[3, 1]))), None::<ArrayD<f64>>);
    let gradients = (Some(IndexedSlices::new(vec![2], ndarray::array![[0.25]])), None::<ArrayD<f64>>);
    let mut opt = Optimizer::new(Sgd::new(1.0)).unwrap();
    opt.step(&mut model, &gradients).unwrap();
    assert_eq!(model.0.unwrap().into_iter().collect::<Vec<_>>(), [1.0, 1.0, 0.75]);
}

#[test]
fn maps_are_models() {
    let one = |number: f64| ArrayD::from_elem(IxDyn(&[1]), number);
    let numbers = [("b", 2.0), ("a", 1.0), ("c", 3.0)];
    let mut sorted: BTreeMap<&str, _> = numbers.map(|(name, number)| (name, one(number))).into();
    let mut hashed: HashMap<String, _> = numbers.map(|(name, number)| (name.to_owned(), one(number))).into();
    let mut opt = Optimizer::new(Sgd::new(0.5)).unwrap();
    let gradients = (sorted.clone(), hashed.clone());
    opt.step(&mut (&mut sorted, &mut hashed), &gradients).unwrap();
    assert_eq!(sorted.into_values().collect::<Vec<_>>(), [0.5, 1.0, 1.5].map(one));
    assert_eq!(["a", "b", "c"].map(|name| hashed[name].clone()), [0.5, 1.0, 1.5].map(one));
    // In the order of the keys, so that a list has an order at all.
    let names: Vec<_> = opt.variables().map(|(name, _)| name).collect();
    assert_eq!(names, ["0.a", "0.b", "0.c", "1.a", "1.b", "1.c"]);
}

#[test]
fn names_are_paths() {
    let names = |model: &dyn Gradients<f64>| model.gradients().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let one = ArrayD::<f64>::zeros(IxDyn(&[2]));
    assert_eq!(names(&one), ["value"]);
    assert_eq!((names(&Some(one.clone())), names(&None::<ArrayD<f64>>)), (vec!["value".to_owned()], vec![]));
    assert_eq!(names(&vec![one.clone(), one]), ["0", "1"]);
    assert_eq!(names(&(Named::new(&[("w", 1.0)]), vec![Named::new(&[("w", 1.0)])])), ["0.w", "1.0.w"]);
}

/// What is read of a model: arrays by name, of a list of variables as well; never a sparse gradient, never numbers that
/// do not fill their shape.
#[test]
fn models_are_read_by_name() {
    struct Sparse(IndexedSlices<f64>);
    impl Gradients<f64> for Sparse {
        fn visit<'a>(&'a self, path: &Path<'_>, visit: &mut dyn FnMut(String, Gradient<'a, f64>)) {
            self.0.visit(&path.field("rows"), visit);
        }
    }
    impl Parameters<f64> for Sparse {
        fn visit_mut<'a>(&'a mut self, _: &Path<'_>, _: &mut dyn FnMut(String, ViewMut<'a, f64>)) {}
    }
    let (mut a, mut b) = ([1.0, 2.0], 3.0);
    let list = [Variable::new("a", &mut a), Variable::new("b", &mut b).gradient(&7.0)];
    let read: Vec<(String, Vec<f64>)> = Parameters::<f64>::arrays(&list)
        .unwrap()
        .into_iter()
        .map(|(name, array)| {
            let Any::Full(array) = array else { panic!("{name} is in 64 bits") };
            (name, array.iter().copied().collect())
        })
        .collect();
    assert_eq!(read, [("a".to_owned(), vec![1.0, 2.0]), ("b".to_owned(), vec![3.0])]);

    let sparse = Sparse(IndexedSlices::new(vec![1], ndarray::array![[0.5]]));
    assert_eq!(sparse.arrays().unwrap_err(), Error::SparseVariable { name: "rows".to_owned() });
    let list = [Variable::new("a", (&mut a, &[3]))];
    assert!(matches!(Parameters::<f64>::arrays(&list), Err(Error::VariableData { elements: 2, .. })));
}

/// A slice is a model of one variable, as a vector is.
#[test]
fn slices_are_models() {
    let mut w = vec![1.0_f32, 2.0];
    let mut opt = Optimizer::new(Sgd::new(0.5)).unwrap();
    opt.step(&mut w[..], &[1.0, 0.0][..]).unwrap();
    opt.step(&mut w, &vec![1.0, 0.0]).unwrap();
    assert_eq!(w, [0.0, 2.0]);
}

/// A single number is a variable without axes, as a gradient too; a list of numbers is one variable.
#[test]
fn numbers_are_models() {
    let mut model = (2.0, [1.0, 3.0], vec![4.0], Some(5.0));
    let gradients = (0.5, [1.0, 2.0], vec![2.0], None::<f64>);
    let mut opt = Optimizer::new(Sgd::new(0.5)).unwrap();
    opt.step(&mut model, &gradients).unwrap();
    assert_eq!(model, (1.75, [0.5, 2.0], vec![3.0], Some(5.0)));
    let shapes: Vec<_> = opt.variables().map(|(name, shape)| (name, shape.to_vec())).collect();
    assert_eq!(shapes, [("0", vec![]), ("1", vec![2]), ("2", vec![1])], "the last has no gradient");

    let mut number = 2.0_f32;
    let mut opt = Optimizer::new(Sgd::new(0.25)).unwrap();
    opt.minimize(&mut number, |number| (number * number, 2.0 * number)).unwrap();
    assert_eq!(number, 1.0);

    // In 16 bits.
    let mut half = (half::bf16::from_f32(2.0), vec![half::f16::ONE]);
    let mut opt = Optimizer::new(Sgd::new(0.5)).unwrap();
    opt.step(&mut half, &(1.0, [2.0])).unwrap();
    assert_eq!((half.0.to_f32(), half.1[0].to_f32()), (1.5, 0.0));
}

#[test]
fn a_closure_may_fail() {
    #[derive(Debug, PartialEq)]
    enum Failure {
        Loss,
        Step(Error),
    }
    impl From<Error> for Failure {
        fn from(error: Error) -> Self {
            Self::Step(error)
        }
    }
    let compute = |result: Option<f64>| result.map(|gradient| (7, [gradient])).ok_or(Failure::Loss);
    let mut w = [1.0];
    let mut opt = Optimizer::builder(Sgd::new(0.5)).non_finite(NonFinite::Error).build().unwrap();
    assert_eq!(opt.try_minimize(&mut w, |_| compute(None)), Err(Failure::Loss));
    let infinite = opt.try_minimize(&mut w, |_| compute(Some(f64::INFINITY)));
    assert!(matches!(infinite, Err(Failure::Step(Error::NonFiniteGradient { .. }))), "{infinite:?}");
    assert_eq!(opt.try_compute_gradients(&mut w, |_| compute(None)), Err(Failure::Loss));
    let misshapen = opt.try_compute_gradients(&mut w, |_| compute(Some(1.0)).map(|_| (0, [1.0, 2.0])));
    assert!(matches!(misshapen, Err(Failure::Step(Error::GradientShape { .. }))), "{misshapen:?}");
    assert_eq!((w, opt.iterations(), opt.variables().count()), ([1.0], 0, 0));

    assert_eq!(opt.try_compute_gradients(&mut w, |_| compute(Some(1.0))), Ok((7, [1.0])));
    assert_eq!(opt.try_minimize(&mut w, |_| compute(Some(1.0))).unwrap().loss, 7);
    assert_eq!((w, opt.iterations()), ([0.5], 1));
}

/// Numbers of other types keep their value, also where it is not the decimal that was written.
#[test]
fn learning_rates_are_numbers_of_any_type() {
    let rate = |rule: Sgd| Optimizer::<_, f64>::new(rule).unwrap().learning_rate();
    assert_eq!(rate(Sgd::new(0.1)), 0.1);
    assert_eq!(rate(Sgd::new(0.1_f32)), 0.100_000_001_490_116_12);
    assert_eq!((rate(Sgd::new(1)), rate(Sgd::new(2_u32))), (1.0, 2.0));
    let mut opt = Optimizer::builder(Sgd::new(1)).weight_decay(0.5_f32).build().unwrap();
    let mut w = [1.0];
    opt.step(&mut w, &[0.0]).unwrap();
    assert_eq!(w, [0.5]);
    opt.set_learning_rate(0.25_f32).unwrap();
    assert_eq!(opt.learning_rate(), 0.25);
    assert!(Optimizer::<_, f64>::new(Sgd::new(-1)).is_err());
    assert!(Optimizer::<_, f64>::new(Sgd::new(f32::NAN)).is_err());
}

#[test]
fn a_gradient_may_be_absent() {
    let (mut w, mut frozen) = ([1.0], [2.0]);
    let given = Some([0.5]);
    let mut opt = Optimizer::new(Sgd::new(1.0)).unwrap();
    opt.apply_gradients([
        Variable::new("w", &mut w).optional_gradient(given.as_ref().map(Into::into)),
        Variable::new("frozen", &mut frozen).optional_gradient(None),
    ])
    .unwrap();
    assert_eq!((w, frozen), ([0.5], [2.0]));
}
