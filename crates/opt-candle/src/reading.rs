//! All variables at once, for calls that only read them: other threads may read the model meanwhile.

use candle_core::Tensor;
use opt_core::model::Path;
use opt_core::{Gradient, Gradients, Optimizer, Parameters, UpdateRule, ViewMut};

use crate::copies::Copies;
use crate::element::Element;
use crate::error::Error;
use crate::gradients::{Locked, viewed};
use crate::optimizer::CandleOptimizer;
use crate::storage::host_copy;
use crate::variables::{Named, bytes};

impl<R: UpdateRule<T>, T: Element> CandleOptimizer<R, T> {
    /// Calls a function with a model that can be saved.
    pub(crate) fn read_variables<X>(
        &mut self,
        f: impl FnOnce(&Optimizer<R, T>, &ReadOnly<'_>) -> Result<X, Error>,
    ) -> Result<X, Error> {
        let variables = self.variables.as_slice();
        let copied = |named: &Named| named.by_copy.then(|| host_copy(&named.var)).transpose();
        let hosts: Vec<Option<Tensor>> = variables.iter().map(copied).collect::<Result<_, _>>()?;
        self.copies = Copies { bytes_to_host: hosts.iter().flatten().map(bytes).sum(), ..Copies::default() };
        let tensors = variables.iter().zip(&hosts).map(|(named, host)| host.as_ref().unwrap_or(&named.var));
        let model = ReadOnly { variables: variables.iter().zip(tensors.map(Tensor::storage_and_layout)).collect() };
        f(&self.engine, &model)
    }
}

/// Variables that are locked for reading.
pub(crate) struct ReadOnly<'v> {
    variables: Vec<(&'v Named, Locked<'v>)>,
}

impl<T: Element> Gradients<T> for ReadOnly<'_> {
    fn visit<'a>(&'a self, _: &Path<'_>, visit: &mut dyn FnMut(String, Gradient<'a, T>)) {
        for (named, locked) in &self.variables {
            let numbers = viewed(named, locked).expect("the type of each variable was checked");
            visit(named.name.clone(), numbers.into());
        }
    }
}

impl<T: Element> Parameters<T> for ReadOnly<'_> {
    fn visit_mut<'a>(&'a mut self, _: &Path<'_>, _: &mut dyn FnMut(String, ViewMut<'a, T>)) {
        unreachable!("nobody gets a mutable reference to it")
    }
}
