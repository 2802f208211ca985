//! Records a step: the phases that write run over numbers that record what is done to them.

use num_traits::Zero;
use smallvec::SmallVec;

use super::super::Optimizer;
use super::super::form::Form;
use super::super::records::{Fill, NewSlots, NewVariable, Record};
use super::super::slots::{SlotPlace, places};
use super::averages::Averaging;
use super::check::Start;
use super::input::{Input, InputGradient, SparseGradient};
use super::measure::Measured;
use super::norms::{Norm, square_sum};
use super::plan::StepPlan;
use super::slice::Buffers;
use super::storage::{Value, Values};
use super::tasks::WholeVariable;
use super::unique_rows::UniqueRows;
use crate::accumulate::Accumulate;
use crate::dtype::DType;
use crate::error::Error;
use crate::master::Master;
use crate::moments::MomentStorage;
use crate::precision::Any;
use crate::real::Scalar;
use crate::rule::{SlotInit, SlotSpec, Step, UpdateRule};
use crate::step_options::StepOptions;
use crate::trace::{Array, Draws, RecordedVariable, Storage, Tape, Traced, Untraceable, Update};
use crate::variable::Variable;

/// The lengths of the blocks that are recorded. Elements of all of them must be treated alike.
const LENGTHS: [usize; 2] = [2, 3];

/// A variable to record: an input of a step, and its number.
pub(in crate::optimizer) struct ToRecord<'r, 'v, T> {
    pub(in crate::optimizer) number: usize,
    pub(in crate::optimizer) input: &'r Input<'v, T>,
    /// That of the clipped and summed rows of a sparse gradient, if the rule needs it.
    pub(in crate::optimizer) square_sum: f64,
    pub(in crate::optimizer) measured: &'r Measured,
    pub(in crate::optimizer) start: &'r Start,
}

impl<T> Copy for ToRecord<'_, '_, T> {}

impl<T> Clone for ToRecord<'_, '_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

/// The update of a touched element, and that of an untouched one if the gradient is sparse.
type Updates = SmallVec<[Update; 2]>;

/// What the recordings of a variable have in common, whatever their lengths are.
struct Subject<'s> {
    name: &'s str,
    group: usize,
    slots: &'s [SlotSpec],
    /// Whether there is an average.
    averages: bool,
    decays: bool,
    /// The scalar slots, unless the variable is new.
    scalars: Option<&'s [f64]>,
    norm: Norm,
    rows: Option<SparseRows>,
}

/// What happens to the rows of a sparse gradient before the stages of a block.
struct SparseRows {
    limit: Option<f64>,
    scale: f64,
    square_sum: f64,
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Records the step that [`apply_gradients`](Self::apply_gradients) would apply: for each variable with a
    /// gradient, what happens to an element. Nothing changes. See [`trace`](crate::trace).
    ///
    /// Factors of clips are those of these gradients. With accumulation, a gradient that is given stands for the sum
    /// over all micro-steps, without a loss scale. Of a sparse gradient, a row is recorded that it names once. Whether
    /// the step would be refused because of numbers that are not finite is not checked.
    ///
    /// # Errors
    ///
    /// [`Error::Untraceable`] if a step cannot be recorded; the errors of `apply_gradients` about names, shapes and
    /// the learning rate.
    pub fn record<'a>(
        &mut self,
        variables: impl IntoIterator<Item = Variable<'a, T>>,
    ) -> Result<Vec<RecordedVariable>, Error>
    where
        T: 'a,
    {
        let options = StepOptions::default();
        let factor = match self.options.accumulate {
            Some(accumulate @ Accumulate { steps: 2.., .. }) => accumulate.factor(accumulate.steps),
            _ => options.factor()? / self.scaling.scale,
        };
        let start = Start { factor, ..self.before_variables(&options)? };
        let inputs = self.trained(variables.into_iter())?;
        let given = inputs.iter().enumerate().filter(|(_, input)| input.gradient.is_some());
        let untraceable = |input: &Input<'_, T>, reason| Error::Untraceable {
            variable: input.name.clone().into_owned(),
            rule: self.groups.ruling_of(input.group).rule(&self.rule).class_name().to_owned(),
            reason,
        };
        for (_, input) in given.clone() {
            self.can_record(input).map_err(|reason| untraceable(input, reason))?;
        }
        let measured = self.measure(&inputs, start.factor)?;
        let unique = self.unique_rows(&inputs, &measured, start.factor)?;
        given
            .map(|(number, input)| {
                let rows = unique.iter().find(|(of_input, _)| *of_input == number).map(|(_, rows)| rows);
                let square_sum =
                    rows.filter(|_| self.rule_needs_norm(input.group)).map(|rows| square_sum(&rows.values, None));
                let square_sum = square_sum.unwrap_or(0.0);
                let recorded =
                    self.record_input(ToRecord { number, input, square_sum, measured: &measured, start: &start });
                recorded.map_err(|reason| untraceable(input, reason))
            })
            .collect()
    }

    /// Prints the next step of a variable as equations, with the numbers in them: in the order of the engine, with the
    /// scale of this gradient and the learning rate of this step. Nothing changes.
    ///
    /// In the equations w is the variable and g its gradient. Numbers have seven digits at most; factors of 1, terms
    /// with a factor of 0, and what makes small numbers 0 are left out. A clip by the global norm is that of this
    /// variable alone; [`record`](Self::record) takes all variables.
    ///
    /// # Errors
    ///
    /// As [`record`](Self::record); [`Error::NoGradients`] without a gradient.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Optimizer, Variable};
    /// use opt_sgd::Sgd;
    ///
    /// let sgd = Sgd::new(0.5).momentum(0.875);
    /// let mut opt = Optimizer::builder(sgd).clipnorm(1.0).weight_decay(0.01).build()?;
    /// let mut w = [1.0, 2.0];
    /// let text = opt.explain(Variable::new("w", &mut w).gradient(&[0.0, 4.0]))?;
    /// let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    /// assert_eq!(lines[0], "w: step 1 of SGD, learning rate 0.5");
    /// assert!(lines[1].starts_with("g <- 0.25 g "));
    /// assert!(lines[2].starts_with("w <- w - 0.005 w "));
    /// assert_eq!(lines[3..], ["momentum <- 0.875 momentum - 0.5 g", "w <- w + momentum"]);
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    pub fn explain(&mut self, variable: Variable<'_, T>) -> Result<String, Error> {
        let is_missing = variable.gradient.is_none();
        match self.record([variable])?.first() {
            Some(recorded) => Ok(recorded.to_string()),
            None if is_missing => Err(Error::NoGradients { variables: 1 }),
            None => Err(Error::AllFrozen { variables: 1 }),
        }
    }

    /// Records the update of the average of a variable without a gradient, and of the variable if it gets the average.
    /// `dtype` is the element type of the variable.
    pub(in crate::optimizer) fn record_average(&self, dtype: DType) -> Update {
        let tape = Tape::start(T::DTYPE);
        let flush_below = if self.options.flush_denormals { Traced::SMALLEST } else { Traced::zero() };
        let averaging = Averaging::at(&self.options.ema, self.iterations, flush_below);
        let before = [Array::Value, Array::Average].map(|array| (array, tape.load(array, 0)));
        let [(_, mut value), (_, mut average)] = before;
        averaging.element(&mut value, &mut average);
        let arrays = before.into_iter().zip([value, average]);
        let update = Update::of(&tape, 0, arrays.map(|((array, before), after)| (array, before, after)));
        update.expect("an average only adds and multiplies").stored(&self.half_storage(dtype))
    }

    /// How variables of an element type are stored, in updates besides steps: these round to nearest.
    pub(in crate::optimizer) fn half_storage(&self, dtype: DType) -> Storage {
        let half = (dtype != T::DTYPE).then_some((dtype, self.options.master));
        Storage { half, to_nearest: true, moments: Vec::new() }
    }

    /// How the arrays of variables of an element type and a group are stored.
    fn storage(&self, dtype: DType, group: usize) -> Storage {
        let is_packed = |place: &u8| self.is_in_bf16(group, usize::from(*place));
        let arrays =
            places(self.groups.slots_of(group)).filter(|(_, place)| matches!(place, Some(SlotPlace::Array(_))));
        let moments = (0..arrays.count() as u8).filter(is_packed).collect();
        Storage { to_nearest: false, moments, ..self.half_storage(dtype) }
    }

    /// The random numbers of the next step of a variable.
    pub(in crate::optimizer) fn draws(&self, variable: &str) -> Draws {
        Draws::new(self.options.moments, self.options.master, self.iterations, variable)
    }

    /// Whether the storage of a variable can be recorded.
    pub(in crate::optimizer) fn can_record(&self, input: &Input<'_, T>) -> Result<(), Untraceable> {
        match () {
            () if self.options.ranks.is_some() => Err(Untraceable::Ranks),
            () if self.shares_exponents(input.group) => Err(Untraceable::Moments),
            () => Ok(()),
        }
    }

    /// Whether moments of the variables of a group share exponents with other elements.
    pub(in crate::optimizer) fn shares_exponents(&self, group: usize) -> bool {
        matches!(self.options.moments, MomentStorage::Float8 { .. })
            && self.groups.slots_of(group).iter().any(SlotSpec::is_moment)
    }

    /// Records the step of one variable.
    pub(in crate::optimizer) fn record_input(&self, of: ToRecord<'_, '_, T>) -> Result<RecordedVariable, Untraceable> {
        let Input { name, group, .. } = of.input;
        let mut updates = self.recorded(of, &LENGTHS)?.into_iter();
        let ruling = self.groups.ruling_of(*group);
        let is_array = |slot: &&SlotSpec| !matches!(slot.init(), SlotInit::Scalar(_) | SlotInit::Shared(_));
        Ok(RecordedVariable {
            variable: name.clone().into_owned(),
            rule: ruling.rule(&self.rule).class_name().to_owned(),
            iteration: self.iterations,
            learning_rate: of.start.rates[*group].learning_rate,
            slots: ruling.slots.iter().filter(is_array).map(|slot| slot.name().to_owned()).collect(),
            draws: self.draws(name),
            update: updates.next().expect("a variable has rows"),
            untouched: updates.next(),
        })
    }

    /// Records a variable with a dense gradient, at one length alone. If its graph is that of a variable that was
    /// recorded at all lengths in the same step, only a rule that treats lengths differently by the numbers of a
    /// variable is not found.
    pub(in crate::optimizer) fn record_again(&self, of: ToRecord<'_, '_, T>) -> Result<Update, Untraceable> {
        Ok(self.recorded(of, &LENGTHS[..1])?.swap_remove(0))
    }

    fn recorded(&self, of: ToRecord<'_, '_, T>, lengths: &[usize]) -> Result<Updates, Untraceable> {
        let ToRecord { number, input, square_sum, measured, start } = of;
        let Input { name, group, .. } = input;
        let ruling = self.groups.ruling_of(*group);
        let tape = Tape::start(T::DTYPE);
        let step = Step::new(self.iterations, start.rates[*group].learning_rate);
        let kernel = ruling.rule(&self.rule).begin_traced(&step, &mut ruling.shared.clone());
        let kernel = kernel.ok_or(Untraceable::NotGeneric)?;
        let plan = self.step_plan(*group, &*kernel, measured, start);

        let (norm, rows) = match &input.gradient {
            Some(InputGradient::Dense(values)) => {
                let known = measured.known(number, input.value.len()).copied();
                (known.unwrap_or_else(|| plan.norm_of(values)), None)
            }
            Some(InputGradient::Sparse(_)) => {
                let (limit, scale) = self.clip_of_rows(number, input, measured, start.factor);
                (Norm::NONE, Some(SparseRows { limit, scale, square_sum }))
            }
            None => (Norm::NONE, None),
        };
        let subject = Subject {
            name,
            group: *group,
            slots: &ruling.slots,
            averages: plan.fused.average.is_some(),
            decays: self.options.weight_decay.applies_to(name),
            scalars: self.records.get(name).map(|record| &*record.scalars),
            norm,
            rows,
        };
        let storage = self.storage(input.value.dtype(T::DTYPE), *group);
        let updates = subject.record(&tape, &plan, lengths)?;
        Ok(updates.into_iter().map(|update| update.stored(&storage)).collect())
    }
}

impl Subject<'_> {
    /// Records blocks of several lengths. Returns the update of a touched element, and that of an untouched one if the
    /// gradient is sparse.
    fn record(&self, tape: &Tape, plan: &StepPlan<'_, Traced>, lengths: &[usize]) -> Result<Updates, Untraceable> {
        let mut blocks = lengths.iter().map(|len| self.block(tape, plan, *len));
        let first = blocks.next().expect("a block is recorded")?;
        for other in blocks {
            if !first.iter().zip(&other?).all(|(first, other)| first.is_same(other)) {
                return Err(Untraceable::ByLength);
            }
        }
        Ok(first)
    }

    /// Records the update of a variable of one row of this length, or of two rows if the gradient is sparse: it
    /// touches the first one.
    fn block(&self, tape: &Tape, plan: &StepPlan<'_, Traced>, width: usize) -> Result<Updates, Untraceable> {
        let len = if self.rows.is_some() { 2 * width } else { width };
        let loads = |array, len| (0..len).map(|element| tape.load(array, element)).collect::<Vec<_>>();
        let mut value = loads(Array::Value, len);
        let gradient = loads(Array::Gradient, width);
        let values = Any::Full(Values::Slice(&gradient));
        let (gradient, unique) = match &self.rows {
            None => (InputGradient::Dense(values), None),
            Some(SparseRows { limit, scale, square_sum }) => {
                let sparse = SparseGradient { rows: vec![0], values };
                let unique = UniqueRows { square_sum: Some(*square_sum), ..UniqueRows::new(&sparse, *limit, *scale) };
                (InputGradient::Sparse(Box::new(sparse)), Some(unique))
            }
        };
        let mut record = self.new_record(width, len);
        for (slot, array) in record.arrays.iter_mut().enumerate() {
            *array = loads(Array::Slot(slot as u8), len);
        }
        record.average = record.average.map(|_| loads(Array::Average, len));
        let before = [vec![(Array::Value, value.clone())], state(&record)].concat();

        let norm = Some(&self.norm);
        let mut whole = Any::Full(Value::Slice(&mut value));
        WholeVariable {
            value: &mut whole,
            len,
            gradient: &gradient,
            unique: unique.as_ref(),
            record: &mut record,
            norm,
        }
        .update_blocks(plan, &mut Buffers::default());

        let after = [vec![(Array::Value, value)], state(&record)].concat();
        let update = |element| {
            let arrays = before.iter().zip(&after);
            Update::of(
                tape,
                element,
                arrays.map(|((array, before), (_, after))| (*array, before[element], after[element])),
            )
        };
        let mut updates = SmallVec::new();
        for row in (0..len).step_by(width) {
            let first = update(row)?;
            for element in row + 1..row + width {
                if !update(element)?.is_same(&first) {
                    return Err(Untraceable::ByPlace);
                }
            }
            updates.push(first);
        }
        Ok(updates)
    }

    /// The record of a variable of rows of this width.
    fn new_record(&self, width: usize, len: usize) -> Record<Traced> {
        let form = Form { shape: [len / width, width].as_slice().into(), axes: None, whole: None };
        let value = &|| vec![Traced::default(); len];
        let (name, dtype, decays, group) = (self.name.to_owned(), Traced::DTYPE, self.decays, self.group);
        let variable = NewVariable { name, form, dtype, len, value, decays, group };
        let (specs, averages, master, fill) = (self.slots, self.averages, Master::Full, Fill::Initial);
        let mut record = Record::new(variable, &NewSlots { specs, averages, master, fill }, MomentStorage::Full);
        if let Some(scalars) = self.scalars {
            record.scalars = scalars.to_vec();
        }
        record
    }
}

/// The arrays of a record.
fn state(record: &Record<Traced>) -> Vec<(Array, Vec<Traced>)> {
    let slots = record.arrays.iter().enumerate().map(|(slot, array)| (Array::Slot(slot as u8), array));
    let average = record.average.iter().map(|average| (Array::Average, average));
    slots.chain(average).map(|(array, numbers)| (array, numbers.clone())).collect()
}
