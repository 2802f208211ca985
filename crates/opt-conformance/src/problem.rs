//! Generated training runs: variables of many shapes, and gradients that do not depend on the variables.

use std::collections::BTreeMap;

use ndarray::{ArrayBase, ArrayD, Axis, Data, IxDyn};
use opt_core::model::Path;
use opt_core::trace::RecordedVariable;
use opt_core::{Error, Gradients, Optimizer, Parameters, Scalar, StepReport, UpdateRule, Variable, ViewMut};

/// A small random number generator (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[-1, 1)`, exact in 32 bits.
    pub fn number(&mut self) -> f64 {
        (self.bits() >> 41) as f64 / f64::from(1_u32 << 22) - 1.0
    }

    /// A whole number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// An array of numbers in `[-1, 1)`.
    pub fn array(&mut self, shape: &[usize]) -> ArrayD<f64> {
        ArrayD::from_shape_simple_fn(IxDyn(shape), || self.number())
    }
}

/// A gradient of one variable.
#[derive(Debug, Clone, PartialEq)]
pub enum Gradient {
    /// No gradient in this step.
    Absent,
    /// One number for each element.
    Dense(ArrayD<f64>),
    /// Gradients of some rows, in any order; a row may appear twice.
    Sparse(Vec<usize>, ArrayD<f64>),
}

/// Variables, and their gradients step by step.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Names and values before the first step.
    pub variables: Vec<(String, ArrayD<f64>)>,
    /// For each step, a gradient for each variable.
    pub steps: Vec<Vec<Gradient>>,
}

impl Problem {
    /// Variables of the given shapes, called `v0`, `v1`, ..., with dense gradients.
    #[must_use]
    pub fn dense(seed: u64, shapes: &[&[usize]], steps: usize) -> Self {
        let mut rng = Rng(seed);
        let variables =
            shapes.iter().enumerate().map(|(i, shape)| (format!("v{i}"), rng.array(shape))).collect::<Vec<_>>();
        let steps =
            (0..steps).map(|_| shapes.iter().map(|shape| Gradient::Dense(rng.array(shape))).collect()).collect();
        Self { variables, steps }
    }

    /// All cases: no axes to six, sizes 0 and 1, absent gradients, sparse gradients with rows that appear twice.
    #[must_use]
    pub fn varied(seed: u64, steps: usize) -> Self {
        let shapes: [&[usize]; 8] = [&[], &[1], &[0], &[7, 3], &[5], &[2, 3, 4], &[2, 1, 3, 2], &[2, 2, 1, 3, 1, 2]];
        let mut problem = Self::dense(seed, &shapes, steps);
        let mut rng = Rng(!seed);
        let embedding = [9, 4];
        problem.variables.push(("embedding".to_owned(), rng.array(&embedding)));
        problem.variables.push(("sometimes".to_owned(), rng.array(&[3, 2])));
        for (number, step) in problem.steps.iter_mut().enumerate() {
            let rows: Vec<usize> = (0..rng.below(6)).map(|_| rng.below(embedding[0])).collect();
            let values = rng.array(&[rows.len(), embedding[1]]);
            step.push(Gradient::Sparse(rows, values));
            let sometimes = if number % 3 == 1 { Gradient::Absent } else { Gradient::Dense(rng.array(&[3, 2])) };
            step.push(sometimes);
        }
        problem
    }

    /// The same problem, with the first gradient of each row of a sparse gradient alone.
    #[must_use]
    pub fn with_distinct_rows(mut self) -> Self {
        for gradient in self.steps.iter_mut().flatten() {
            if let Gradient::Sparse(rows, values) = gradient {
                let is_first = |place: &usize| !rows[..*place].contains(&rows[*place]);
                let first: Vec<usize> = (0..rows.len()).filter(is_first).collect();
                *values = values.select(Axis(0), &first);
                *rows = first.iter().map(|place| rows[*place]).collect();
            }
        }
        self
    }

    /// The variables in the element type.
    #[must_use]
    pub fn start<T: Scalar>(&self) -> Variables<T> {
        let values = self.variables.iter().map(|(name, value)| (name.clone(), value.mapv(T::literal)));
        Variables(values.collect())
    }

    /// Applies one step.
    ///
    /// # Errors
    ///
    /// The error of the optimizer.
    pub fn step<R: UpdateRule<T>, T: Scalar>(
        &self,
        number: usize,
        optimizer: &mut Optimizer<R, T>,
        variables: &mut Variables<T>,
    ) -> Result<StepReport, Error> {
        let gradients = self.gradients(number);
        optimizer.apply_gradients(variables.with(&gradients))
    }

    /// Records one step.
    ///
    /// # Errors
    ///
    /// The error of the optimizer.
    pub fn record<R: UpdateRule<T>, T: Scalar>(
        &self,
        number: usize,
        optimizer: &mut Optimizer<R, T>,
        variables: &mut Variables<T>,
    ) -> Result<Vec<RecordedVariable>, Error> {
        let gradients = self.gradients(number);
        optimizer.record(variables.with(&gradients))
    }

    /// The gradients of a step by the names of the variables.
    pub(crate) fn gradients<T: Scalar>(&self, number: usize) -> BTreeMap<&str, Cast<T>> {
        let names = self.variables.iter().map(|(name, _)| name.as_str());
        names.zip(self.steps[number].iter().map(Cast::new)).collect()
    }
}

/// A gradient in the element type.
pub(crate) enum Cast<T> {
    Absent,
    Dense(ArrayD<T>),
    Sparse(Vec<usize>, ArrayD<T>),
}

impl<T: Scalar> Cast<T> {
    fn new(gradient: &Gradient) -> Self {
        match gradient {
            Gradient::Absent => Self::Absent,
            Gradient::Dense(values) => Self::Dense(values.mapv(T::literal)),
            Gradient::Sparse(rows, values) => Self::Sparse(rows.clone(), values.mapv(T::literal)),
        }
    }

    /// The gradient of an element, by its place in a variable whose rows have this width; `None` in rows without one.
    pub(crate) fn element(&self, element: usize, width: usize) -> Option<T> {
        match self {
            Self::Absent => None,
            Self::Dense(values) => values.iter().nth(element).copied(),
            Self::Sparse(rows, values) => {
                let row = rows.iter().position(|row| *row == element / width)?;
                values.iter().nth(row * width + element % width).copied()
            }
        }
    }

    /// The gradient as a step gets it.
    pub(crate) fn as_gradient(&self) -> Option<opt_core::Gradient<'_, T>> {
        match self {
            Self::Absent => None,
            Self::Dense(values) => Some(values.into()),
            Self::Sparse(rows, values) => Some(opt_core::Gradient::sparse(rows, values)),
        }
    }
}

/// Named variables in the element type, in the order in which a step gets them.
#[derive(Debug, Clone, PartialEq)]
pub struct Variables<T>(pub Vec<(String, ArrayD<T>)>);

impl<T: Scalar> Variables<T> {
    /// The value of a variable.
    ///
    /// # Panics
    ///
    /// If there is no such variable.
    #[must_use]
    pub fn of(&self, variable: &str) -> &ArrayD<T> {
        let found = self.0.iter().find(|(name, _)| name == variable);
        found.map(|(_, value)| value).unwrap_or_else(|| panic!("there is no variable {variable:?}"))
    }

    /// The variables with their gradients.
    fn with<'a>(&'a mut self, gradients: &'a BTreeMap<&str, Cast<T>>) -> impl Iterator<Item = Variable<'a, T>> {
        self.0.iter_mut().map(|(name, value)| {
            let gradient = gradients.get(name.as_str()).and_then(Cast::as_gradient);
            Variable::new(name.as_str(), value).optional_gradient(gradient)
        })
    }

    /// All elements by name, bit for bit.
    #[must_use]
    pub fn bits(&self) -> BTreeMap<&str, Vec<u64>> {
        self.0.iter().map(|(name, value)| (name.as_str(), bits(value))).collect()
    }
}

impl<T: Scalar> Gradients<T> for Variables<T> {
    fn visit<'a>(&'a self, _path: &Path<'_>, visit: &mut dyn FnMut(String, opt_core::Gradient<'a, T>)) {
        self.0.iter().for_each(|(name, value)| visit(name.clone(), value.into()));
    }
}

impl<T: Scalar> Parameters<T> for Variables<T> {
    fn visit_mut<'a>(&'a mut self, _path: &Path<'_>, visit: &mut dyn FnMut(String, ViewMut<'a, T>)) {
        self.0.iter_mut().for_each(|(name, value)| visit(name.clone(), value.into()));
    }
}

/// The elements, bit for bit.
#[must_use]
pub fn bits<T: Scalar, S: Data<Elem = T>>(values: &ArrayBase<S, IxDyn>) -> Vec<u64> {
    values.iter().map(|value| value.as_().to_bits()).collect()
}
