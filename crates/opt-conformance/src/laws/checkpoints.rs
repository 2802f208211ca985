//! What is not in `weights` does not exist: files show it.

use std::io::Cursor;

use opt_checkpoint::{Checkpoint, Element, SaveOptions};
use opt_core::{FromConfig, Optimizer, OptimizerBuilder};

use super::{Broken, Setting, Stage, Subject, for_all};
use crate::problem::{Problem, Variables};

/// A checkpoint is all there is of a run.
///
/// A run that was saved at any step goes on bit for bit from nothing but the file, configuration included. And an
/// optimizer that has been at work goes back to the start by loading the file from there, and does the same once more:
/// whatever a rule or a wrapper remembers outside of its slots is found in one of the two ways.
///
/// # Errors
///
/// When the law does not hold.
pub fn state_cannot_be_forgotten<R: Subject>(rule: &R) -> Result<(), Broken> {
    fn check<R: Subject + FromConfig<T>, T: Element>(setting: &Setting<'_, R>) -> Result<(), Broken> {
        let problem = Problem::varied(16, 10);
        let (control, want) = setting.trained::<T>(&problem)?;
        let (mut optimizer, mut variables) = (setting.optimizer::<T>()?, problem.start::<T>());
        let start = save(setting, &optimizer, &mut variables)?;
        for number in 0..=problem.steps.len() {
            let what = format!("saved at step {number}");
            let file = save(setting, &optimizer, &mut variables)?;
            let (mut resumed, mut continued) = (from_file(setting, &file)?, problem.start::<T>());
            load(setting, &file, &mut resumed, &mut continued)?;
            setting.train(&problem, number, &mut resumed, &mut continued)?;
            setting.same(&what, &continued, &want)?;
            setting.same_state(&what, &resumed, &control)?;
            if number < problem.steps.len() {
                let stepped = problem.step(number, &mut optimizer, &mut variables);
                stepped.map_err(|error| setting.broken::<T>(format!("step {number}: {error}")))?;
            }
        }
        load(setting, &start, &mut optimizer, &mut variables)?;
        setting.train(&problem, 0, &mut optimizer, &mut variables)?;
        setting.same("back at the start", &variables, &want)?;
        setting.same_state("back at the start", &optimizer, &control)
    }
    for_all!(rule, [Stage::Alone, Stage::Everything], state_cannot_be_forgotten => check);
    Ok(())
}

fn save<R: Subject + FromConfig<T>, T: Element>(
    setting: &Setting<'_, R>,
    optimizer: &Optimizer<R, T>,
    variables: &Variables<T>,
) -> Result<Checkpoint, Broken> {
    let mut file = Cursor::new(Vec::new());
    let written = SaveOptions::new().write(&mut file, optimizer, variables);
    let read = written.and_then(|_| Checkpoint::from_bytes(file.into_inner()));
    read.map_err(|error| setting.broken::<T>(format!("not saved: {error}")))
}

/// A new optimizer of the file's configuration.
fn from_file<R: Subject + FromConfig<T>, T: Element>(
    setting: &Setting<'_, R>,
    file: &Checkpoint,
) -> Result<Optimizer<R, T>, Broken> {
    let config = file.config().ok_or_else(|| setting.broken::<T>("the file has no configuration"))?;
    let builder = OptimizerBuilder::<R, T>::from_config_of(config, &setting.registry());
    setting.build(builder.map_err(|error| setting.broken::<T>(format!("{config}: {error}")))?)
}

fn load<R: Subject + FromConfig<T>, T: Element>(
    setting: &Setting<'_, R>,
    file: &Checkpoint,
    optimizer: &mut Optimizer<R, T>,
    variables: &mut Variables<T>,
) -> Result<(), Broken> {
    let loaded = file.load(optimizer, variables);
    loaded.map(|_| ()).map_err(|error| setting.broken::<T>(format!("not loaded: {error}")))
}
