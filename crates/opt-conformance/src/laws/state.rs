//! The laws of the state that a run leaves, and of resuming from it.

use std::collections::BTreeSet;

use opt_core::rule::{SlotInit, SlotSpec, WeightsOrder};
use opt_core::state::StateValue;
use opt_core::{OptimizerBuilder, Scalar, UpdateRule};
use serde_json::Value;

use opt_core::DynOptimizer;

use super::{Broken, Setting, Stage, Subject, for_all};
use crate::problem::{self, Problem};

/// A run depends on nothing but its configuration, `weights` and variables: it resumes bit for bit in a new optimizer
/// that is restored from them, at any step.
///
/// # Errors
///
/// When the law does not hold.
pub fn restoring_continues(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let problem = Problem::varied(14, 14);
        let (control, want) = setting.trained(&problem)?;
        let (mut optimizer, mut variables) = (setting.optimizer()?, problem.start::<T>());
        for number in 0..=problem.steps.len() {
            let config = optimizer.to_config().map_err(|error| setting.broken(error.to_string()))?;
            let text = config.to_string();
            let read: Value = serde_json::from_str(&text).map_err(|error| setting.broken(error.to_string()))?;
            let builder = OptimizerBuilder::from_config(&read, &setting.rule.registry)
                .map_err(|error| setting.broken(format!("{text}: {error}")))?;
            let (mut restored, mut continued) = (setting.build(builder)?, variables.clone());
            if optimizer.variables().next().is_some() {
                restored.add_variables(&mut continued).map_err(|error| setting.broken(error.to_string()))?;
            }
            restored.set_weights(optimizer.weights()).map_err(|error| setting.broken(error.to_string()))?;
            setting.train(&problem, number, &mut restored, &mut continued)?;
            setting.same(&format!("restored at step {number}"), &continued, &want)?;
            setting.same_state(&format!("restored at step {number}"), &restored, &control)?;
            if number < problem.steps.len() {
                setting.step(&problem, number, &mut optimizer, &mut variables)?;
            }
        }
        Ok(())
    }
    for_all!(rule, Stage::ALL, restoring_continues => check);
    Ok(())
}

/// A configuration that is written, read and written again is the same, and has the fields that the class documents.
///
/// # Errors
///
/// When the law does not hold.
pub fn configurations_come_back(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let broken = |error: opt_core::config::ConfigError| setting.broken(error.to_string());
        let written = setting.optimizer()?.to_config().map_err(broken)?;
        let builder = OptimizerBuilder::from_config(&written, &setting.rule.registry).map_err(broken)?;
        let again = setting.build(builder)?.to_config().map_err(broken)?;
        if written != again {
            return Err(setting.broken(format!("wrote {written}, then {again}")));
        }
        let rule = setting.rule.copy();
        let fields = rule.config().map_err(broken)?;
        let documented = setting.rule.registry.hyperparameters(rule.class_name());
        let documented: BTreeSet<&str> = documented.iter().map(|parameter| parameter.name).collect();
        let undocumented = fields.keys().find(|key| !documented.is_empty() && !documented.contains(key.as_str()));
        match undocumented {
            Some(key) => Err(setting.broken(format!("field {key:?} is not among its hyperparameters"))),
            None => Ok(()),
        }
    }
    for_all!(rule, Stage::ALL, configurations_come_back => check);
    Ok(())
}

/// The state has the slots that the rule declares, in that order, and nothing else.
///
/// # Errors
///
/// When the law does not hold.
pub fn state_is_as_declared(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let problem = Problem::varied(15, 2);
        let (optimizer, _) = setting.trained(&problem)?;
        let names: Vec<&str> = problem.variables.iter().map(|(name, _)| name.as_str()).collect();
        let mut want = vec!["iterations".to_owned()];
        if matches!(setting.stage, Stage::Average | Stage::Everything) {
            want.extend(names.iter().map(|name| format!("{name}/average")));
        }
        let rule = setting.rule.copy();
        let slots = rule.slots();
        let is_shared = |slot: &SlotSpec| matches!(slot.init(), SlotInit::Shared(_));
        let of = |name: &str, slot: &SlotSpec| format!("{name}/{}", slot.name());
        match rule.weights_order() {
            WeightsOrder::BySlot => {
                for slot in &slots {
                    if is_shared(slot) {
                        want.push(slot.name().to_owned());
                    } else {
                        want.extend(names.iter().map(|name| of(name, slot)));
                    }
                }
            }
            WeightsOrder::ByVariable => {
                want.extend(slots.iter().filter(|slot| is_shared(slot)).map(|slot| slot.name().to_owned()));
                let own = slots.iter().filter(|slot| !is_shared(slot));
                let (last, own): (Vec<&SlotSpec>, Vec<&SlotSpec>) = own.partition(|slot| slot.is_listed_last());
                want.extend(names.iter().flat_map(|name| own.iter().map(move |slot| of(name, slot))));
                want.extend(last.iter().flat_map(|slot| names.iter().map(move |name| of(name, slot))));
            }
        }
        let got: Vec<String> = optimizer.weights().into_iter().map(|weight| weight.name).collect();
        if got == want { Ok(()) } else { Err(setting.broken(format!("weights are {got:?}, declared {want:?}"))) }
    }
    for_all!(rule, Stage::OF_ONE_GROUP, state_is_as_declared => check);
    Ok(())
}

/// The state of an optimizer: the name of each weight, and its bits.
pub(super) type Bits = Vec<(String, Vec<u64>)>;

/// The state of an optimizer, bit for bit.
pub(super) fn of<T: Scalar>(optimizer: &DynOptimizer<T>) -> Bits {
    optimizer.weights().into_iter().map(|weight| (weight.name, bits(&weight.value))).collect()
}

/// A weight, bit for bit.
pub(super) fn bits<T: Scalar>(value: &StateValue<'static, T>) -> Vec<u64> {
    match value {
        StateValue::Iterations(count) => vec![(*count as f64).to_bits()],
        StateValue::Scalar(number) => vec![number.to_bits()],
        StateValue::Array(array) => problem::bits(array),
        StateValue::Bf16(array) => array.iter().map(|number| u64::from(number.to_bits())).collect(),
    }
}
