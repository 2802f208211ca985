//! Runs that start from a state: it comes in as the files of the recorded system do.

use ndarray::ArrayD;
use opt_checkpoint::Element;
use opt_checkpoint::import::{KerasWeights, TorchState};
use opt_core::{DynOptimizer, Variable};
use serde_json::Value;

use super::array;
use super::mesh::Place;
use crate::golden::{RecordedArray, Restore};

/// Replaces the state of an optimizer by the recorded one.
pub(super) fn load<T: Element>(
    state: &Restore,
    config: &Value,
    place: Place<'_>,
    optimizer: &mut DynOptimizer<T>,
    variables: &mut [Variable<'_, T>],
) -> Result<(), String> {
    if place.rank().is_some() {
        return Err("a state is restored in one process only".to_owned());
    }
    let imported = match state {
        Restore::Keras { list } => {
            let arrays: Vec<ArrayD<T>> = list.iter().map(elements).collect::<Result<_, _>>()?;
            said(KerasWeights::from_arrays(arrays), config).load(optimizer, variables)
        }
        Restore::Pytorch { iterations, tensors } => {
            let named = tensors.iter().map(|(name, tensor)| Ok((name.clone(), elements(tensor)?)));
            let tensors: Vec<(String, ArrayD<T>)> = named.collect::<Result<_, String>>()?;
            TorchState::from_tensors(tensors).iterations(*iterations).load(optimizer, variables)
        }
    };
    imported.map(drop).map_err(|error| format!("restore: {error}"))
}

/// Says which Keras the list is from, as the recorded configuration does.
fn said(weights: KerasWeights, config: &Value) -> KerasWeights {
    match config["config"]["is_legacy_optimizer"].as_bool() {
        Some(false) => weights.from_keras2(),
        Some(true) => weights.from_keras_legacy(),
        None => weights,
    }
}

fn elements<T: Element>(recorded: &RecordedArray) -> Result<ArrayD<T>, String> {
    array(&recorded.shape, recorded.value.elements())
}
