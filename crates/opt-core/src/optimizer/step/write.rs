//! The last phase of a step: computes the rule's coefficients, and updates variables and slots on several threads.

use super::super::Optimizer;
use super::averages;
use super::check::Start;
use super::input::Input;
use super::measure::Measured;
use super::plan::StepPlan;
use super::slice::Buffers;
use super::tasks::{Task, tasks};
use super::unique_rows::UniqueRows;
use crate::real::Scalar;
use crate::rule::{Fused, Kernel, Step, UpdateRule};

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Updates variables and slots. `first` is the number of the first input; `unique` has the rows of sparse gradients
    /// by the numbers of the inputs.
    pub(in crate::optimizer) fn write_updates(
        &mut self,
        inputs: &mut [Input<'_, T>],
        first: usize,
        unique: &[(usize, UniqueRows<T>)],
        measured: &Measured,
        start: &Start,
    ) {
        let threads = &self.options.threads;
        let groups = &self.groups;
        let mut shared = groups.shared_of_each();
        let begin = |group: usize| Step::new(self.iterations, start.rates[group].learning_rate);
        let kernels = groups.each(|group| groups.begin(group, &self.rule, &begin(group), &mut shared[group]));
        let plans = groups.each(|group| self.step_plan(group, &*kernels[group], measured, start));
        if self.options.use_ema && self.options.ema.includes_all {
            averages::update_without_gradient(&plans, inputs, &mut self.records);
        }
        let records = self.records.as_mut_slice();
        let mut tasks = tasks(inputs, first, records, unique, measured, |total| threads.shares(total), &plans);
        threads.run(&mut tasks, Task::len, |tasks| {
            let mut buffers = Buffers::default();
            tasks.iter_mut().for_each(|task| task.update(&plans, &mut buffers));
        });
        drop(plans);
        drop(kernels);
        self.groups.keep_shared_of_each(&shared);
    }

    /// The plan of a step for the variables of a group, in the element type of the kernel.
    pub(in crate::optimizer) fn step_plan<'k, E: Scalar>(
        &self,
        group: usize,
        kernel: &'k dyn Kernel<E>,
        measured: &Measured,
        start: &Start,
    ) -> StepPlan<'k, E> {
        let average = Some(self.options.ema).filter(|_| self.options.use_ema && self.groups.averages(group));
        StepPlan {
            kernel,
            question: self.question(group, start.factor),
            norm_limit: self.clip(group).norm,
            global_factor: measured.factor_of(group),
            needs_norm: self.rule_needs_norm(group),
            fused: Fused {
                scale: Fused::scale(measured.factor_of(group) * start.factor),
                decay: start.rates[group].decay.map(E::literal),
                average: average.map(|ema| ema.weights_at(self.iterations)),
                flush_below: if self.options.flush_denormals { E::SMALLEST } else { E::zero() },
            },
            overwrite: average.is_some_and(|ema| ema.overwrites_at(self.iterations + 1)),
            storage: self.options.moments,
            iteration: self.iterations,
            on_ranks: self.options.ranks.is_some(),
        }
    }
}
