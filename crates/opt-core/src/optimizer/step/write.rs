//! The last phase of a step: computes the rule's coefficients, and updates variables and slots on several threads.

use super::super::Optimizer;
use super::averages::Averaging;
use super::check::Start;
use super::input::Input;
use super::measure::Measured;
use super::plan::StepPlan;
use super::slice::Buffers;
use super::tasks::{Task, tasks};
use super::unique_rows::UniqueRows;
use crate::real::Scalar;
use crate::rule::{Step, UpdateRule};

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Updates variables and slots. `unique` has the rows of sparse gradients by the numbers of the inputs.
    pub(in crate::optimizer) fn write_updates(
        &mut self,
        mut inputs: Vec<Input<'_, T>>,
        unique: &[(usize, UniqueRows<T>)],
        measured: &Measured,
        start: &Start,
    ) {
        let step = Step::new(self.iterations, start.learning_rate);
        let ema = self.options.use_ema.then_some(self.options.ema);
        let question = self.question();
        let threads = &self.options.threads;
        let kernel = self.rule.begin_step(&step, &mut self.shared);
        let plan = StepPlan {
            kernel: &*kernel,
            question,
            norm_limit: self.options.clip.norm,
            global_factor: measured.factor.unwrap_or(1.0),
            needs_norm: self.rule.needs_gradient_norm(),
            decay: start.decay,
            average: ema.map(|ema| ema.momentum_at(self.iterations)),
            overwrite: ema.is_some_and(|ema| ema.overwrites_at(step.number())),
            storage: self.options.moments,
            iteration: self.iterations,
            on_ranks: self.options.ranks.is_some(),
            flush_below: if self.options.flush_denormals { T::SMALLEST } else { T::zero() },
        };
        if ema.is_some_and(|ema| ema.includes_all)
            && let Some(averaging) = Averaging::of(&plan)
        {
            averaging.update_without_gradient(&mut inputs, &mut self.records);
        }
        let records = self.records.as_mut_slice();
        let mut tasks = tasks(&mut inputs, records, unique, measured, |total| threads.shares(total), &plan);
        threads.run(&mut tasks, Task::len, |tasks| {
            let mut buffers = Buffers::default();
            tasks.iter_mut().for_each(|task| task.update(&plan, &mut buffers));
        });
    }
}
