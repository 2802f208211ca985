//! Steps over a model: with a structure of gradients, or with a closure that computes them.

use std::collections::HashMap;

use super::Optimizer;
use crate::error::Error;
use crate::gradient::Gradient;
use crate::parameters::{Gradients, Parameters};
use crate::real::Scalar;
use crate::report::StepReport;
use crate::rule::UpdateRule;
use crate::step_options::StepOptions;
use crate::variable::Variable;

/// The loss before a step, and the report of the step.
#[derive(Debug, Clone, PartialEq)]
pub struct Minimized<L> {
    /// The loss that the closure returned.
    pub loss: L,
    /// The report of the step.
    pub report: StepReport,
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Applies one step to a model. Gradients are matched by name; a variable without a gradient keeps its values.
    ///
    /// # Errors
    ///
    /// As [`apply_gradients`](Self::apply_gradients), and [`Error::UnknownGradient`] for a gradient that belongs to no
    /// variable. Nothing has then changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use ndarray::array;
    /// use opt_core::Optimizer;
    /// use opt_sgd::Sgd;
    ///
    /// let mut model = (array![1.0, 2.0], vec![array![[3.0]]]);
    /// let grads = (array![0.5, 0.0], vec![array![[1.0]]]);
    /// let mut opt = Optimizer::new(Sgd::new(0.5))?;
    /// opt.step(&mut model, &grads)?;
    /// assert_eq!(model, (array![0.75, 2.0], vec![array![[2.5]]]));
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    pub fn step<P, G>(&mut self, model: &mut P, gradients: &G) -> Result<StepReport, Error>
    where
        P: Parameters<T> + ?Sized,
        G: Gradients<T> + ?Sized,
    {
        self.step_with(model, gradients, StepOptions::default())
    }

    /// As [`step`](Self::step), with options of this call.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step); an error when an option is out of range.
    pub fn step_with<P, G>(&mut self, model: &mut P, gradients: &G, options: StepOptions) -> Result<StepReport, Error>
    where
        P: Parameters<T> + ?Sized,
        G: Gradients<T> + ?Sized,
    {
        let variables = matched(model.variables(), gradients)?;
        self.step_over(variables.into_iter(), &options)
    }

    /// Runs a closure that computes a loss and its gradients, and checks names, shapes and indices of the gradients
    /// against the model. Applies nothing; [`step`](Self::step) does that.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step) for names, shapes and indices.
    pub fn compute_gradients<P, G, L>(
        &mut self,
        model: &mut P,
        loss: impl FnOnce(&P) -> (L, G),
    ) -> Result<(L, G), Error>
    where
        P: Parameters<T>,
        G: Gradients<T>,
    {
        let (loss, gradients) = loss(model);
        let variables = matched(model.variables(), &gradients)?;
        self.trained(variables.into_iter())?;
        Ok((loss, gradients))
    }

    /// As [`compute_gradients`](Self::compute_gradients), with a closure that may fail.
    ///
    /// # Errors
    ///
    /// The closure's own error, or one of [`compute_gradients`](Self::compute_gradients).
    pub fn try_compute_gradients<P, G, L, E>(
        &mut self,
        model: &mut P,
        loss: impl FnOnce(&P) -> Result<(L, G), E>,
    ) -> Result<(L, G), E>
    where
        P: Parameters<T>,
        G: Gradients<T>,
        E: From<Error>,
    {
        let computed = loss(model)?;
        Ok(self.compute_gradients(model, |_| computed)?)
    }

    /// Runs a closure that computes a loss and its gradients, and applies one step. For a closure that may fail, see
    /// [`try_minimize`](Self::try_minimize).
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    ///
    /// # Examples
    ///
    /// ```
    /// use ndarray::array;
    /// use opt_core::Optimizer;
    /// use opt_sgd::Sgd;
    ///
    /// let mut w = array![4.0];
    /// let mut opt = Optimizer::new(Sgd::new(0.25))?;
    /// let first = opt.minimize(&mut w, |w| (w[0] * w[0], 2.0 * w))?;
    /// assert_eq!((first.loss, w[0]), (16.0, 2.0));
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    pub fn minimize<P, G, L>(&mut self, model: &mut P, loss: impl FnOnce(&P) -> (L, G)) -> Result<Minimized<L>, Error>
    where
        P: Parameters<T>,
        G: Gradients<T>,
    {
        let (loss, gradients) = loss(model);
        Ok(Minimized { loss, report: self.step(model, &gradients)? })
    }

    /// As [`minimize`](Self::minimize), with a closure that may fail. The error type is the closure's own; it holds the
    /// errors of the step as well, so it converts from [`Error`].
    ///
    /// A closure that uses `?` must say its error type, in its signature or with `Ok::<_, E>(..)`.
    ///
    /// # Errors
    ///
    /// The closure's own error, or one of [`step`](Self::step). Nothing has then changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::Optimizer;
    /// use opt_sgd::Sgd;
    ///
    /// type AnyError = Box<dyn std::error::Error>;
    ///
    /// let mut w = [4.0];
    /// let mut opt = Optimizer::new(Sgd::new(0.25))?;
    /// let mut fit = |target: &str| {
    ///     opt.try_minimize(&mut w, |w| -> Result<_, AnyError> {
    ///         let error = w[0] - target.parse::<f64>()?;
    ///         Ok((error * error, [2.0 * error]))
    ///     })
    /// };
    /// assert_eq!(fit("2")?.loss, 4.0);
    /// assert_eq!(fit("two").unwrap_err().to_string(), "invalid float literal");
    /// assert_eq!((w[0], opt.iterations()), (3.0, 1));
    /// # Ok::<(), AnyError>(())
    /// ```
    pub fn try_minimize<P, G, L, E>(
        &mut self,
        model: &mut P,
        loss: impl FnOnce(&P) -> Result<(L, G), E>,
    ) -> Result<Minimized<L>, E>
    where
        P: Parameters<T>,
        G: Gradients<T>,
        E: From<Error>,
    {
        let computed = loss(model)?;
        Ok(self.minimize(model, |_| computed)?)
    }
}

/// Gives each variable its gradient; refuses gradients that are left over.
fn matched<'a, T: Scalar, G: Gradients<T> + ?Sized>(
    mut variables: Vec<Variable<'a, T>>,
    gradients: &'a G,
) -> Result<Vec<Variable<'a, T>>, Error> {
    let gradients = gradients.gradients();
    let same_names = variables.len() == gradients.len()
        && variables.iter().zip(&gradients).all(|(variable, (name, _))| *name == variable.name);
    if same_names {
        for (variable, (_, gradient)) in variables.iter_mut().zip(gradients) {
            variable.gradient = Some(gradient);
        }
        return Ok(variables);
    }
    let mut by_name: HashMap<String, Gradient<'a, T>> = HashMap::with_capacity(gradients.len());
    for (name, gradient) in gradients {
        if by_name.contains_key(&name) {
            return Err(Error::DuplicateGradient { name });
        }
        by_name.insert(name, gradient);
    }
    for variable in &mut variables {
        variable.gradient = by_name.remove(&*variable.name);
    }
    match by_name.into_keys().min() {
        Some(name) => Err(Error::UnknownGradient { name }),
        None => Ok(variables),
    }
}
