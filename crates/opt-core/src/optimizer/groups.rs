//! The groups of an optimizer: the group of each variable, and the rules that the groups use.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use smallvec::SmallVec;

use super::Optimizer;
use super::rulings::Ruling;
use super::step::input::Input;
use crate::clip::Clip;
use crate::error::Error;
use crate::group::{Group, Select};
use crate::hyper::Hyper;
use crate::moments::MomentStorage;
use crate::real::Scalar;
use crate::rule::{Kernel, SlotSpec, Step, UpdateRule};
use crate::step_options::StepOptions;

/// A value for each group.
pub(crate) type PerGroup<V> = SmallVec<[V; 1]>;

/// The values of the shared slots of a rule.
pub(crate) type SharedSlots = SmallVec<[f64; 2]>;

/// The groups, the default group first.
#[derive(Debug, Clone)]
pub(crate) struct Groups<T> {
    groups: Vec<Group<T>>,
    /// The rule of each group, as a place among the rulings.
    ruled_by: Vec<usize>,
    rulings: Vec<Ruling<T>>,
    /// The groups of frozen variables without a record, by their names.
    frozen: HashMap<String, usize>,
    /// Whether a step has found a variable for each group.
    are_known: bool,
    /// What the call that is being checked adds to `frozen` and `are_known`, unless it is refused.
    unsure: (HashMap<String, usize>, bool),
}

/// A group of an optimizer, and its variables: see [`Optimizer::groups`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GroupInfo {
    /// The name.
    pub name: Arc<str>,
    /// The learning rate of the next step.
    pub learning_rate: f64,
    /// Whether the variables are not trained.
    pub frozen: bool,
    /// The names of the variables that are known: those with slots, in the order in which they were first seen, then
    /// frozen ones without slots, sorted.
    pub variables: Vec<String>,
}

impl<T: Scalar> Groups<T> {
    /// Checks the groups, and the rules that they use.
    pub(crate) fn new<R: UpdateRule<T>>(
        rule: &R,
        own: Vec<Group<T>>,
        averages: bool,
        storage: MomentStorage,
    ) -> Result<Self, Error> {
        let mut rulings = vec![Ruling::new(rule, None, 0, storage)?];
        let mut groups = vec![Group::rest()];
        let mut ruled_by = vec![0];
        let mut names = HashSet::from([Arc::clone(&groups[0].name)]);
        for mut group in own {
            if matches!(group.select, Select::Rest) && groups[0].frozen.is_none() {
                groups[0] = group;
                continue;
            }
            if !names.insert(Arc::clone(&group.name)) {
                return Err(Error::DuplicateGroup { group: group.name.to_string() });
            }
            group.prepare(averages)?;
            ruled_by.push(if group.rule.is_some() { rulings.len() } else { 0 });
            if let Some(own) = &group.rule {
                let ruling = Ruling::new(&**own, Some(Arc::clone(own)), groups.len(), storage);
                rulings.push(ruling.map_err(|error| Error::in_group(&group.name, error))?);
            }
            groups.push(group);
        }
        let are_known = groups.len() == 1;
        Ok(Self { groups, ruled_by, rulings, frozen: HashMap::new(), are_known, unsure: Default::default() })
    }

    /// The default group alone, with these slots.
    #[cfg(test)]
    pub(crate) fn of_one_rule(slots: Vec<SlotSpec>) -> Self {
        let ruling = Ruling::of_slots(slots);
        let groups = vec![Group::rest()];
        Self {
            groups,
            ruled_by: vec![0],
            rulings: vec![ruling],
            frozen: HashMap::new(),
            are_known: true,
            unsure: Default::default(),
        }
    }

    /// A value for each group. (A loop: collecting takes ten times as long where there is one.)
    pub(crate) fn each<V>(&self, mut value: impl FnMut(usize) -> V) -> PerGroup<V> {
        let mut values = PerGroup::new();
        for group in 0..self.len() {
            values.push(value(group));
        }
        values
    }

    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// The groups beside the default one.
    pub(crate) fn own(&self) -> &[Group<T>] {
        &self.groups[1..]
    }

    /// The groups that a configuration lists: the default one only if it says whether it is frozen.
    pub(crate) fn written(&self) -> &[Group<T>] {
        if self.groups[0].frozen.is_some() { &self.groups } else { self.own() }
    }

    pub(crate) fn get(&self, group: usize) -> &Group<T> {
        &self.groups[group]
    }

    /// The rules in use, that of the optimizer first.
    pub(crate) fn rulings(&self) -> &[Ruling<T>] {
        &self.rulings
    }

    pub(crate) fn ruling_mut(&mut self, ruling: usize) -> &mut Ruling<T> {
        &mut self.rulings[ruling]
    }

    /// The values of the shared slots of all rules.
    pub(crate) fn shared(&self) -> Vec<Vec<f64>> {
        self.rulings.iter().map(|ruling| ruling.shared.clone()).collect()
    }

    /// The shared slots for each group. Groups that share a rule start from the same ones.
    pub(crate) fn shared_of_each(&self) -> PerGroup<SharedSlots> {
        self.each(|group| self.ruling_of(group).shared.as_slice().into())
    }

    /// Begins the step of the rule of a group, which changes its shared slots; `rule` is that of the optimizer.
    pub(crate) fn begin<'a, R: UpdateRule<T>>(
        &'a self,
        group: usize,
        rule: &'a R,
        step: &Step,
        shared: &mut [f64],
    ) -> Box<dyn Kernel<T> + 'a> {
        self.ruling_of(group).rule(rule).begin_step(step, shared)
    }

    /// Keeps the shared slots after a step. Of groups that share a rule, the first one counts: the one whose rule it
    /// is.
    pub(crate) fn keep_shared_of_each(&mut self, shared: &[SharedSlots]) {
        for (group, shared) in shared.iter().enumerate().rev() {
            let ruling = self.ruled_by(group);
            self.ruling_mut(ruling).shared.copy_from_slice(shared);
        }
    }

    pub(crate) fn set_shared(&mut self, shared: &[Vec<f64>]) {
        self.rulings.iter_mut().zip(shared).for_each(|(ruling, shared)| ruling.shared.clone_from(shared));
    }

    /// The rule of a group, as a place among the rulings.
    pub(crate) fn ruled_by(&self, group: usize) -> usize {
        self.ruled_by[group]
    }

    /// The rule of a group.
    pub(crate) fn ruling_of(&self, group: usize) -> &Ruling<T> {
        &self.rulings[self.ruled_by[group]]
    }

    /// The slots that the variables of a group have from their rule.
    pub(crate) fn slots_of(&self, group: usize) -> &[SlotSpec] {
        &self.ruling_of(group).slots
    }

    /// The group of a variable that has no record.
    pub(crate) fn choose(&self, variable: &str, shape: &[usize]) -> usize {
        let own = self.groups.iter().skip(1).position(|group| group.chooses(variable, shape));
        own.map_or(0, |place| place + 1)
    }

    /// Forgets what a call that was refused has found.
    pub(crate) fn forget_unsure(&mut self) {
        self.unsure.0.clear();
        self.unsure.1 = false;
    }

    /// Keeps what a call has found: nothing has refused it.
    pub(crate) fn be_sure(&mut self) {
        let (frozen, are_known) = &mut self.unsure;
        self.frozen.extend(frozen.drain());
        self.are_known |= *are_known;
    }

    /// Whether a variable without a record belongs to a frozen group, as far as is known.
    pub(crate) fn has_frozen(&self, variable: &str) -> bool {
        self.frozen.contains_key(variable) || self.unsure.0.contains_key(variable)
    }

    /// Whether any group is frozen.
    pub(crate) fn are_any_frozen(&self) -> bool {
        self.groups.iter().any(Group::is_frozen)
    }

    /// Whether a variable is frozen; one without a record is remembered.
    pub(crate) fn is_frozen<'s>(
        &mut self,
        variable: &str,
        record: Option<usize>,
        shape: impl FnOnce() -> Option<&'s [usize]>,
    ) -> bool {
        if let Some(group) = record {
            return self.groups[group].is_frozen();
        }
        if let Some(&group) = self.frozen.get(variable) {
            return self.groups[group].is_frozen();
        }
        // A value that does not fill its shape is refused later.
        let Some(shape) = shape() else { return false };
        let group = self.choose(variable, shape);
        if self.groups[group].is_frozen() {
            self.unsure.0.insert(variable.to_owned(), group);
        }
        self.groups[group].is_frozen()
    }

    /// The clips of a group by value and by norm, and by the norm of the group.
    pub(crate) fn clip(&self, group: usize, default: &Clip) -> Clip {
        let own = self.groups[group].clip;
        if own == Clip::default() { Clip { global_norm: None, ..*default } } else { own }
    }

    /// The weight decay of a group at a step. A rule that has one by default brings it along, where the
    /// optimizer has none.
    pub(crate) fn weight_decay_at(&self, group: usize, default: Option<&Hyper>, step: u64) -> Option<f64> {
        let Group { weight_decay, rule, .. } = &self.groups[group];
        let of_rule = || rule.as_ref().and_then(|rule| rule.default_weight_decay());
        match weight_decay {
            // None at all: an infinite value stays infinite.
            Some(Hyper::Constant(0.0)) => None,
            Some(own) => Some(own.at(step)),
            None => default.map(|rate| rate.at(step)).or_else(of_rule),
        }
    }

    /// Whether the variables of a group have averages, if the optimizer keeps any.
    pub(crate) fn averages(&self, group: usize) -> bool {
        self.groups[group].average.unwrap_or(true)
    }

    /// The place of a group of this name.
    fn place(&self, name: &str) -> Result<usize, Error> {
        let unknown = || Error::UnknownGroup {
            group: name.to_owned(),
            known: self.groups.iter().map(|group| group.name.to_string()).collect(),
        };
        self.groups.iter().position(|group| &*group.name == name).ok_or_else(unknown)
    }
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// The groups, the default one first, with their variables.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Group, Optimizer, Variable};
    /// use opt_sgd::Sgd;
    ///
    /// let group = Group::matching("^emb/").frozen().named("embeddings");
    /// let mut opt = Optimizer::builder(Sgd::new(0.5)).group(group).build()?;
    /// let [mut rows, mut kernel] = [[1.0], [1.0]];
    /// opt.apply_gradients([
    ///     Variable::new("emb/rows", &mut rows),
    ///     Variable::new("dense/kernel", &mut kernel).gradient(&[1.0]),
    /// ])?;
    /// let groups = opt.groups();
    /// assert_eq!((&*groups[0].name, &groups[0].variables[..]), ("default", &["dense/kernel".to_owned()][..]));
    /// assert_eq!((&*groups[1].name, &groups[1].variables[..]), ("embeddings", &["emb/rows".to_owned()][..]));
    ///
    /// opt.unfreeze("embeddings")?;
    /// opt.apply_gradients([Variable::new("emb/rows", &mut rows).gradient(&[1.0])])?;
    /// assert_eq!(rows, [0.5]);
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    #[must_use]
    pub fn groups(&self) -> Vec<GroupInfo> {
        let info = |(place, group): (usize, &Group<T>)| {
            let known = self.records.iter().filter(|record| record.group == place).map(|record| record.name.clone());
            let frozen = self.groups.frozen.iter().filter(|(_, group)| **group == place).map(|(name, _)| name);
            let mut frozen: Vec<String> = frozen.filter(|name| self.records.get(name).is_none()).cloned().collect();
            frozen.sort_unstable();
            GroupInfo {
                name: Arc::clone(&group.name),
                learning_rate: self.learning_rate_of(place),
                frozen: group.is_frozen(),
                variables: known.chain(frozen).collect(),
            }
        };
        self.groups.groups.iter().enumerate().map(info).collect()
    }

    /// The rules of groups that have one of their own, each with the name of its group.
    pub fn group_rules(&self) -> impl Iterator<Item = (&str, &dyn UpdateRule<T>)> {
        let own = self.groups.own().iter();
        own.filter_map(|group| Some((&*group.name, group.rule.as_deref()?)))
    }

    /// Sets the learning rate of a group: a number, or a schedule. It takes the place of the group's factor, or of the
    /// learning rate of the group's rule. The name of the default group is `default`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`], and the errors of [`set_learning_rate`](Self::set_learning_rate).
    pub fn set_group_learning_rate(&mut self, group: &str, learning_rate: impl Into<Hyper>) -> Result<(), Error> {
        let place = self.groups.place(group)?;
        if place == 0 {
            return self.set_learning_rate(learning_rate);
        }
        let learning_rate = learning_rate.into();
        let own = &self.groups.groups[place];
        let rule = self.groups.ruling_of(place).rule(&self.rule);
        let of_rule = own.rule.as_ref().map(|_| rule.learning_rate());
        self.check_new_learning_rate(own.learning_rate.as_ref().or(of_rule), &learning_rate)?;
        let own = &mut self.groups.groups[place];
        own.learning_rate = Some(learning_rate);
        own.learning_rate_scale = None;
        Ok(())
    }

    /// Stops the training of a group. The state of its variables stays as it is; gradients that they have accumulated
    /// are forgotten.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn freeze(&mut self, group: &str) -> Result<(), Error> {
        let place = self.groups.place(group)?;
        self.groups.groups[place].frozen = Some(true);
        let frozen = self.records.iter_mut().filter(|record| record.group == place);
        frozen.for_each(|record| record.accumulator.clear());
        self.forget_micro_steps();
        Ok(())
    }

    /// Trains a group from the next step on. Variables that have never been trained start as new variables do, others
    /// go on with their state.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGroup`].
    pub fn unfreeze(&mut self, group: &str) -> Result<(), Error> {
        let place = self.groups.place(group)?;
        self.groups.groups[place].unfreeze();
        self.groups.frozen.retain(|_, group| *group != place);
        Ok(())
    }

    /// The learning rate of a group in the next step.
    pub(super) fn learning_rate_of(&self, group: usize) -> f64 {
        self.learning_rate_in(group, &StepOptions::default())
    }

    /// The learning rate of a group in a step with these options.
    pub(super) fn learning_rate_in(&self, group: usize, options: &StepOptions) -> f64 {
        let own = self.groups.get(group);
        let rule = self.groups.ruling_of(group).rule(&self.rule);
        let step = self.schedule_step();
        if let Some(rate) = &own.learning_rate {
            return rule.adjusted_learning_rate(rate.at(step), step);
        }
        let given = options.learning_rate.filter(|_| own.rule.is_none());
        let rate = given.map_or_else(|| rule.learning_rate_at(step), |rate| rule.adjusted_learning_rate(rate, step));
        own.learning_rate_scale.map_or(rate, |factor| factor * rate)
    }

    /// Checks, until it has succeeded once, that each group has a variable.
    pub(super) fn check_groups(&mut self, inputs: &[Input<'_, T>]) -> Result<(), Error> {
        if self.groups.are_known || inputs.is_empty() {
            return Ok(());
        }
        let new = inputs.iter().map(|input| input.group);
        let of_records = self.records.iter().map(|record| record.group);
        let known = new.chain(of_records).chain(self.groups.frozen.values().copied());
        let known: HashSet<usize> = known.chain(self.groups.unsure.0.values().copied()).collect();
        if let Some(empty) = (1..self.groups.len()).find(|group| !known.contains(group)) {
            return Err(Error::EmptyGroup { group: self.groups.get(empty).name.to_string() });
        }
        self.groups.unsure.1 = true;
        Ok(())
    }
}
