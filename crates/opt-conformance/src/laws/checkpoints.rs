//! The law that a run has no state besides `weights`, checked with files.

use std::io::Cursor;

use opt_checkpoint::{Checkpoint, Element, SaveOptions};
use opt_core::OptimizerBuilder;

use opt_core::DynOptimizer;

use super::{Broken, Setting, Stage, Subject, for_all};
use crate::problem::{Problem, Variables};

/// A checkpoint holds all state of a run.
///
/// A run that was saved at any step resumes bit for bit from the file alone, configuration included. And an optimizer
/// that has made steps goes back to the start by loading the first file, and then makes the same steps again. State
/// that a rule or a wrapper keeps outside of its slots fails one of the two checks.
///
/// # Errors
///
/// When the law does not hold.
pub fn state_cannot_be_forgotten(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Element>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let problem = Problem::varied(16, 10);
        let (control, want) = setting.trained(&problem)?;
        let (mut optimizer, mut variables) = (setting.optimizer()?, problem.start::<T>());
        let start = save(setting, &optimizer, &variables)?;
        for number in 0..=problem.steps.len() {
            let what = format!("saved at step {number}");
            let file = save(setting, &optimizer, &variables)?;
            let (mut resumed, mut continued) = (from_file(setting, &file)?, problem.start::<T>());
            load(setting, &file, &mut resumed, &mut continued)?;
            setting.train(&problem, number, &mut resumed, &mut continued)?;
            setting.same(&what, &continued, &want)?;
            setting.same_state(&what, &resumed, &control)?;
            if number < problem.steps.len() {
                setting.step(&problem, number, &mut optimizer, &mut variables)?;
            }
        }
        load(setting, &start, &mut optimizer, &mut variables)?;
        setting.train(&problem, 0, &mut optimizer, &mut variables)?;
        setting.same("back at the start", &variables, &want)?;
        setting.same_state("back at the start", &optimizer, &control)
    }
    for_all!(rule, [Stage::Alone, Stage::Everything, Stage::GroupsOfRules], state_cannot_be_forgotten => check);
    Ok(())
}

fn save<T: Element>(
    setting: &Setting<'_, T>,
    optimizer: &DynOptimizer<T>,
    variables: &Variables<T>,
) -> Result<Checkpoint, Broken> {
    let mut file = Cursor::new(Vec::new());
    let written = SaveOptions::new().write(&mut file, optimizer, variables);
    let read = written.and_then(|_| Checkpoint::from_bytes(file.into_inner()));
    read.map_err(|error| setting.broken(format!("not saved: {error}")))
}

/// A new optimizer from the file's configuration.
fn from_file<T: Element>(setting: &Setting<'_, T>, file: &Checkpoint) -> Result<DynOptimizer<T>, Broken> {
    let config = file.config().ok_or_else(|| setting.broken("the file has no configuration"))?;
    let builder = OptimizerBuilder::from_config(config, &setting.rule.registry);
    setting.build(builder.map_err(|error| setting.broken(format!("{config}: {error}")))?)
}

fn load<T: Element>(
    setting: &Setting<'_, T>,
    file: &Checkpoint,
    optimizer: &mut DynOptimizer<T>,
    variables: &mut Variables<T>,
) -> Result<(), Broken> {
    let loaded = file.load(optimizer, variables);
    loaded.map(|_| ()).map_err(|error| setting.broken(format!("not loaded: {error}")))
}
