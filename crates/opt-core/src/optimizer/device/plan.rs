//! Records what a step does to the elements of variables that are on a device.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::super::groups::{PerGroup, SharedSlots};
use super::super::slots::places;
use super::super::step::check::Start;
use super::super::step::input::{Input, InputGradient};
use super::super::step::measure::Measured;
use super::super::step::recording::ToRecord;
use super::step::position;
use super::{DeviceUpdate, Elements, HostSide, Source};
use crate::dtype::DType;
use crate::error::Error;
use crate::real::Scalar;
use crate::rule::{SlotInit, SlotSpec, Step, UpdateRule};
use crate::trace::Update;

/// What a step will do.
pub(super) struct Planned {
    pub(super) updates: Vec<DeviceUpdate>,
    /// The scalar slots after the step, by place.
    pub(super) scalars: Vec<(usize, Vec<f64>)>,
    /// The shared slots after the step.
    pub(super) shared: PerGroup<SharedSlots>,
}

/// What variables with the same graph usually have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    group: usize,
    dtype: DType,
    is_sparse: bool,
    decays: bool,
}

/// What the update of a variable depends on, besides the step: variables of the same key have the same update.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    /// The bits of the factor of the clips.
    clip: u64,
    /// The bits of the rule's numbers for the variable.
    numbers: [u64; 4],
}

/// The recorded update of a variable.
#[derive(Clone)]
struct Known {
    update: Arc<Update>,
    /// Its parameters, if they are not those of `update`.
    parameters: Option<Arc<[f64]>>,
    /// The update of rows that a sparse gradient does not name.
    untouched: Option<Arc<Update>>,
}

/// The updates of a step so far.
#[derive(Default)]
struct Recordings {
    of_key: HashMap<Key, Known>,
    /// Those that were recorded in full, of dense gradients.
    of_kind: HashMap<Kind, Vec<Arc<Update>>>,
    /// The updates of averages alone.
    averages: BTreeMap<DType, Arc<Update>>,
}

impl<R: UpdateRule<T>, T: Scalar> HostSide<R, T> {
    /// Records what happens to the elements of each variable.
    pub(super) fn plan(
        &self,
        inputs: &[Input<'_, T>],
        sources: &[Source],
        measured: &Measured,
        start: &Start,
    ) -> Result<Planned, Error> {
        let optimizer = &self.optimizer;
        let (rule, groups) = (&optimizer.rule, &optimizer.groups);
        let mut shared = groups.shared_of_each();
        let begin = |group: usize| Step::new(optimizer.iterations, start.rates[group].learning_rate);
        let kernels = groups.each(|group| groups.begin(group, rule, &begin(group), &mut shared[group]));
        let plans = groups.each(|group| optimizer.step_plan(group, &*kernels[group], measured, start));

        let (mut updates, mut scalars) = (Vec::new(), Vec::new());
        let mut recordings = Recordings::default();
        for (number, (input, source)) in inputs.iter().zip(sources).enumerate() {
            let Input { place, group, gradient, .. } = input;
            let dtype = input.value.dtype(T::DTYPE);
            let mut push = |elements, update: &Arc<Update>, parameters: Option<&Arc<[f64]>>| {
                if input.value.len() > 0 && !update.graph.stores.is_empty() {
                    let (position, place, source) = (position(input), *place, *source);
                    let (update, parameters) = (Arc::clone(update), parameters.cloned());
                    let draws = optimizer.draws(&input.name);
                    updates.push(DeviceUpdate { position, place, source, elements, update, parameters, draws });
                }
            };
            let Some(gradient) = gradient else {
                if optimizer.options.ema.includes_all && optimizer.averages(*group) {
                    let averages = &mut recordings.averages;
                    let average = averages.entry(dtype).or_insert_with(|| Arc::new(optimizer.record_average(dtype)));
                    push(Elements::All, average, None);
                }
                continue;
            };
            let record = (*place < optimizer.records.len()).then(|| optimizer.records.at(*place));
            let slots = &optimizer.groups.ruling_of(*group).slots;
            let mut of_variable = record.map_or_else(|| initial_scalars(slots), |record| record.scalars.clone());
            let decays =
                record.map_or_else(|| optimizer.options.weight_decay.applies_to(&input.name), |record| record.decays);
            let norm = measured.norm(number);
            let clip = plans[*group].clip_of(norm);
            let square_sum = norm.scaled_square_sum(clip);
            let numbers = plans[*group].variable_scalars(&input.name, &mut of_variable, square_sum);
            let is_sparse = matches!(gradient, InputGradient::Sparse(_));
            let kind = Kind { group: *group, dtype, is_sparse, decays };
            let key = Key { kind, clip: clip.to_bits(), numbers: numbers.map(f64::to_bits) };
            let known = self.recorded(ToRecord { number, input, square_sum, measured, start }, key, &mut recordings)?;
            let elements = if is_sparse { Elements::Rows } else { Elements::All };
            push(elements, &known.update, known.parameters.as_ref());
            if let Some(untouched) = &known.untouched {
                push(Elements::OtherRows, untouched, None);
            }
            scalars.push((*place, of_variable));
        }
        drop(plans);
        drop(kernels);
        Ok(Planned { updates, scalars, shared })
    }

    /// The update of a variable: known, or recorded. Where only numbers differ from an update that was recorded in
    /// full, one length is enough.
    fn recorded<'r>(
        &self,
        of: ToRecord<'_, '_, T>,
        key: Key,
        Recordings { of_key, of_kind, .. }: &'r mut Recordings,
    ) -> Result<&'r Known, Error> {
        let kind = key.kind;
        let new = match of_key.entry(key) {
            Entry::Occupied(known) => return Ok(known.into_mut()),
            Entry::Vacant(new) => new,
        };
        let untraceable = |reason| self.untraceable(of.input, reason);
        let alike = of_kind.get(&kind).map_or(&[][..], Vec::as_slice);
        if !alike.is_empty() {
            let again = self.optimizer.record_again(of).map_err(untraceable)?;
            let Update { graph, parameters } = again;
            if let Some(update) = alike.iter().find(|update| update.graph == graph) {
                let (update, parameters) = (Arc::clone(update), Some(parameters.into()));
                return Ok(new.insert(Known { update, parameters, untouched: None }));
            }
        }
        let recorded = self.optimizer.record_input(of).map_err(untraceable)?;
        let (update, untouched) = (Arc::new(recorded.update), recorded.untouched.map(Arc::new));
        if !kind.is_sparse {
            of_kind.entry(kind).or_default().push(Arc::clone(&update));
        }
        Ok(new.insert(Known { update, parameters: None, untouched }))
    }
}

/// The initial values of the scalar slots of a variable.
fn initial_scalars(slots: &[SlotSpec]) -> Vec<f64> {
    let scalars = places(slots).filter_map(|(slot, _)| match slot.init() {
        SlotInit::Scalar(initial) => Some(initial),
        _ => None,
    });
    scalars.collect()
}
