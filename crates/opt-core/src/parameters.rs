//! Models as sources of named variables and gradients.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::slice;

use half::{bf16, f16};
use ndarray::{ArrayBase, Data, DataMut, Dimension};

use crate::error::Error;
use crate::gradient::{Gradient, IndexedSlices};
use crate::precision::AnyArray;
use crate::real::Scalar;
use crate::variable::Variable;
use crate::view::sealed::Sealed;
use crate::view::{ShapeMismatch, Stored, View, ViewMut};

/// A source of named numbers to read: gradients, or the variables of a model.
///
/// Implemented for ndarray arrays, for single numbers, for vectors and arrays of numbers, for [`IndexedSlices`], and
/// for vectors, arrays, tuples, options and maps of sources. Derive it for structures. Names are paths, such as
/// `layers.0.kernel`. A single number has shape `[]`. An option that is `None` has no variables.
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use opt_core::Gradients;
///
/// let layers = (vec![array![1.0, 2.0], array![3.0]], Some(array![[4.0]]));
/// let names: Vec<String> = layers.gradients().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["0.0", "0.1", "1"]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no variables or gradients in `{T}`",
    note = "a field without variables is left out of a derived model by `#[parameters(skip)]`"
)]
pub trait Gradients<T: Scalar> {
    /// Calls `visit` with the name and the numbers of each array; `path` is the path of this source in the model.
    fn visit<'a>(&'a self, path: &Path<'_>, visit: &mut dyn FnMut(String, Gradient<'a, T>));

    /// Visits a list of sources. They are numbered from 0; only single numbers are one array together.
    #[doc(hidden)]
    fn visit_list<'a>(list: &'a [Self], path: &Path<'_>, visit: &mut dyn FnMut(String, Gradient<'a, T>))
    where
        Self: Sized,
    {
        list.iter().enumerate().for_each(|(i, part)| part.visit(&path.index(i), visit));
    }

    /// The names of all arrays, with their numbers.
    fn gradients(&self) -> Vec<(String, Gradient<'_, T>)> {
        let mut gradients = Vec::new();
        self.visit(&Path::Root, &mut |name, gradient| gradients.push((name, gradient)));
        gradients
    }
}

/// A source of named variables: a model.
///
/// Implemented for the same types as [`Gradients`], except sparse gradients. Derive it for structures. Arrays and
/// vectors of 16-bit numbers are variables as [`Variable::half`] makes them. A model is also a source of gradients: a
/// second value of the same type can hold them.
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use opt_core::Parameters;
///
/// let mut model = vec![array![1.0, 2.0], array![3.0]];
/// let names: Vec<String> = model.variables().iter().map(|variable| variable.name().to_owned()).collect();
/// assert_eq!(names, ["0", "1"]);
/// ```
#[doc(alias = "Module")]
#[doc(alias = "state_dict")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no variables in `{T}`",
    note = "a field without variables is left out of a derived model by `#[parameters(skip)]`"
)]
pub trait Parameters<T: Scalar>: Gradients<T> {
    /// Calls `visit` with the name and the numbers of each variable; `path` is the path of this source in the model.
    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, visit: &mut dyn FnMut(String, ViewMut<'a, T>));

    /// As [`Gradients::visit_list`], to change.
    #[doc(hidden)]
    fn visit_list_mut<'a>(list: &'a mut [Self], path: &Path<'_>, visit: &mut dyn FnMut(String, ViewMut<'a, T>))
    where
        Self: Sized,
    {
        list.iter_mut().enumerate().for_each(|(i, part)| part.visit_mut(&path.index(i), visit));
    }

    /// The names of all variables, with their numbers to read.
    ///
    /// # Errors
    ///
    /// [`Error::VariableData`] for numbers that do not fill the shape that was given with them;
    /// [`Error::SparseVariable`] where [`Gradients::visit`] gives a sparse gradient instead of a variable.
    fn arrays(&self) -> Result<Vec<(String, AnyArray<'_, T>)>, Error> {
        self.gradients().into_iter().map(array).collect()
    }

    /// All variables, without gradients.
    fn variables(&mut self) -> Vec<Variable<'_, T>> {
        let mut variables = Vec::new();
        self.visit_mut(&Path::Root, &mut |name, value| variables.push(Variable::new(name, value)));
        variables
    }
}

/// The path of a source in a model.
#[derive(Debug, Clone, Copy)]
pub enum Path<'p> {
    /// The model itself.
    Root,
    /// A named part of another path.
    Field(&'p Path<'p>, &'p str),
    /// A numbered part of another path, from 0.
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    /// The path of a named part.
    #[must_use]
    pub fn field<'p>(&'p self, name: &'p str) -> Path<'p> {
        Path::Field(self, name)
    }

    /// The path of a numbered part.
    #[must_use]
    pub fn index(&self, index: usize) -> Path<'_> {
        Path::Index(self, index)
    }

    /// The name for this path, with dots: `layers.0.kernel`. The name of a model that is a single array is `value`.
    #[must_use]
    pub fn name(&self) -> String {
        let (parent, last) = match self {
            Self::Root => return "value".to_owned(),
            Self::Field(parent, name) => (parent, (*name).to_owned()),
            Self::Index(parent, index) => (parent, index.to_string()),
        };
        match parent {
            Path::Root => last,
            _ => format!("{}.{last}", parent.name()),
        }
    }
}

/// A variable as an array to read.
fn array<'a, T>((name, numbers): (String, Gradient<'a, T>)) -> Result<(String, AnyArray<'a, T>), Error> {
    let Gradient::Dense(view) = numbers else { return Err(Error::SparseVariable { name }) };
    match view.into_any_array() {
        Ok(array) => Ok((name, array)),
        Err(ShapeMismatch { elements, shape }) => Err(Error::VariableData { variable: name, elements, shape }),
    }
}

type Visit<'v, 'a, T> = &'v mut dyn FnMut(String, Gradient<'a, T>);
type VisitMut<'v, 'a, T> = &'v mut dyn FnMut(String, ViewMut<'a, T>);

impl<T: Scalar, E: Stored<T>, S: Data<Elem = E>, D: Dimension> Gradients<T> for ArrayBase<S, D> {
    fn visit<'a>(&'a self, path: &Path<'_>, visit: Visit<'_, 'a, T>) {
        visit(path.name(), E::view(self.into()).into());
    }
}

impl<T: Scalar, E: Stored<T>, S: DataMut<Elem = E>, D: Dimension> Parameters<T> for ArrayBase<S, D> {
    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, visit: VisitMut<'_, 'a, T>) {
        visit(path.name(), E::view_mut(self.into()));
    }
}

impl<T: Scalar> Gradients<T> for IndexedSlices<T> {
    fn visit<'a>(&'a self, path: &Path<'_>, visit: Visit<'_, 'a, T>) {
        visit(path.name(), self.into());
    }
}

/// A variable is a model with one variable, of its own name, so that a list of variables is a model. Its gradient is
/// not used.
impl<T: Scalar> Gradients<T> for Variable<'_, T> {
    fn visit<'a>(&'a self, _path: &Path<'_>, visit: Visit<'_, 'a, T>) {
        visit(self.name().to_owned(), self.value.as_view().into());
    }
}

/// A variable is a model with one variable, of its own name, so that a list of variables is a model. Its gradient is
/// not used.
impl<T: Scalar> Parameters<T> for Variable<'_, T> {
    fn visit_mut<'a>(&'a mut self, _path: &Path<'_>, visit: VisitMut<'_, 'a, T>) {
        visit(self.name().to_owned(), self.value.reborrow());
    }
}

/// Single numbers: one variable without axes. A list of numbers is one variable of one axis.
macro_rules! number {
    ($($number:ty as $element:ty),+ $(,)?) => {$(
        impl Gradients<$element> for $number {
            fn visit<'a>(&'a self, path: &Path<'_>, visit: Visit<'_, 'a, $element>) {
                let number = View::from((slice::from_ref(self), &[]));
                visit(path.name(), <$number as Sealed<$element>>::view(number).into());
            }

            fn visit_list<'a>(list: &'a [Self], path: &Path<'_>, visit: Visit<'_, 'a, $element>) {
                visit(path.name(), <$number as Sealed<$element>>::view(View::from(list)).into());
            }
        }

        impl Parameters<$element> for $number {
            fn visit_mut<'a>(&'a mut self, path: &Path<'_>, visit: VisitMut<'_, 'a, $element>) {
                let number = ViewMut::from((slice::from_mut(self), &[]));
                visit(path.name(), <$number as Sealed<$element>>::view_mut(number));
            }

            fn visit_list_mut<'a>(list: &'a mut [Self], path: &Path<'_>, visit: VisitMut<'_, 'a, $element>) {
                visit(path.name(), <$number as Sealed<$element>>::view_mut(ViewMut::from(list)));
            }
        }
    )+};
}

number!(f32 as f32, f64 as f64, bf16 as f32, f16 as f32);

/// Pointers to one source.
macro_rules! pointer {
    ($([$($generics:tt)*] $type:ty),+ $(,)?) => {$(
        impl<$($generics)* T: Scalar, P: Gradients<T> + ?Sized> Gradients<T> for $type {
            fn visit<'a>(&'a self, path: &Path<'_>, visit: Visit<'_, 'a, T>) {
                (**self).visit(path, visit);
            }
        }
        impl<$($generics)* T: Scalar, P: Parameters<T> + ?Sized> Parameters<T> for $type {
            fn visit_mut<'a>(&'a mut self, path: &Path<'_>, visit: VisitMut<'_, 'a, T>) {
                (**self).visit_mut(path, visit);
            }
        }
    )+};
}

pointer!([] Box<P>, ['r,] &'r mut P);

impl<T: Scalar, P: Gradients<T>> Gradients<T> for Option<P> {
    fn visit<'a>(&'a self, path: &Path<'_>, visit: Visit<'_, 'a, T>) {
        self.iter().for_each(|part| part.visit(path, visit));
    }
}

impl<T: Scalar, P: Parameters<T>> Parameters<T> for Option<P> {
    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, visit: VisitMut<'_, 'a, T>) {
        self.iter_mut().for_each(|part| part.visit_mut(path, visit));
    }
}

/// Lists of sources.
macro_rules! list {
    ($([$($generics:tt)*] $type:ty),+ $(,)?) => {$(
        impl<T: Scalar, P: Gradients<T>, $($generics)*> Gradients<T> for $type {
            fn visit<'a>(&'a self, path: &Path<'_>, visit: Visit<'_, 'a, T>) {
                P::visit_list(self, path, visit);
            }
        }
        impl<T: Scalar, P: Parameters<T>, $($generics)*> Parameters<T> for $type {
            fn visit_mut<'a>(&'a mut self, path: &Path<'_>, visit: VisitMut<'_, 'a, T>) {
                P::visit_list_mut(self, path, visit);
            }
        }
    )+};
}

list!([] Vec<P>, [const N: usize] [P; N], [] [P]);

impl<T: Scalar, K: AsRef<str> + Ord, P: Gradients<T>> Gradients<T> for BTreeMap<K, P> {
    fn visit<'a>(&'a self, path: &Path<'_>, visit: Visit<'_, 'a, T>) {
        self.iter().for_each(|(key, part)| part.visit(&path.field(key.as_ref()), visit));
    }
}

impl<T: Scalar, K: AsRef<str> + Ord, P: Parameters<T>> Parameters<T> for BTreeMap<K, P> {
    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, visit: VisitMut<'_, 'a, T>) {
        self.iter_mut().for_each(|(key, part)| part.visit_mut(&path.field(key.as_ref()), visit));
    }
}

/// Visits the parts in the order of their keys, so that the order of variables does not change from run to run.
impl<T: Scalar, K: AsRef<str>, P: Gradients<T>, S: BuildHasher> Gradients<T> for HashMap<K, P, S> {
    fn visit<'a>(&'a self, path: &Path<'_>, visit: Visit<'_, 'a, T>) {
        let mut parts: Vec<_> = self.iter().collect();
        parts.sort_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
        parts.into_iter().for_each(|(key, part)| part.visit(&path.field(key.as_ref()), visit));
    }
}

/// Visits the parts in the order of their keys, so that the order of variables does not change from run to run.
impl<T: Scalar, K: AsRef<str>, P: Parameters<T>, S: BuildHasher> Parameters<T> for HashMap<K, P, S> {
    fn visit_mut<'a>(&'a mut self, path: &Path<'_>, visit: VisitMut<'_, 'a, T>) {
        let mut parts: Vec<_> = self.iter_mut().collect();
        parts.sort_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
        parts.into_iter().for_each(|(key, part)| part.visit_mut(&path.field(key.as_ref()), visit));
    }
}

macro_rules! tuple {
    ($($part:ident $index:tt),+) => {
        impl<T: Scalar, $($part: Gradients<T>),+> Gradients<T> for ($($part,)+) {
            fn visit<'a>(&'a self, path: &Path<'_>, visit: Visit<'_, 'a, T>) {
                $(self.$index.visit(&path.index($index), visit);)+
            }
        }
        impl<T: Scalar, $($part: Parameters<T>),+> Parameters<T> for ($($part,)+) {
            fn visit_mut<'a>(&'a mut self, path: &Path<'_>, visit: VisitMut<'_, 'a, T>) {
                $(self.$index.visit_mut(&path.index($index), visit);)+
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
