//! The arrays of an optimizer on a device, and what the engine does with them.

use std::collections::HashMap;
use std::sync::Arc;

use opt_core::device::{
    Backend, DeviceUpdate, Elements, Initial, Measurement, NewState, Question as Asked, Source, Stored, Total,
};
use opt_core::trace::{Array, Update};

use crate::device::{Device, Element, Launch, Part, Program, Question, Rows, Segment};
use crate::error::Error;
use crate::variable::GpuVariable;

/// The arrays of all variables, and the kernels that were needed so far.
#[derive(Debug)]
pub(crate) struct Arrays<D: Device> {
    pub(crate) device: D,
    /// By the places of the variables.
    states: Vec<State<D>>,
    /// Memory for totals, by the places of their variables. The numbers are those of the last call that computed them.
    totals: HashMap<usize, D::Buffer>,
    kernels: HashMap<Program, D::Kernel>,
}

/// The arrays of a variable.
#[derive(Debug)]
struct State<D: Device> {
    /// The array slots, and then the average, if there is one; nothing if there are no arrays.
    arrays: Option<D::Buffer>,
    /// The number of array slots.
    slots: usize,
    /// The sum of the gradients of earlier calls; its numbers mean nothing if the engine does not know of it.
    sum: Option<D::Buffer>,
}

/// The arrays during one call of the engine.
pub(crate) struct Call<'c, 'v, D: Device> {
    arrays: &'c mut Arrays<D>,
    /// The variables of the call, by their positions.
    variables: &'c [GpuVariable<'v, D>],
    /// The rows of sparse gradients, once the updates are prepared.
    tables: RowTables<D::Buffer>,
}

/// A launch that is being put together.
struct Draft<'u> {
    program: Program,
    /// Each update, and the place of its first parameter.
    updates: Vec<(&'u DeviceUpdate, usize)>,
    parameters: Vec<f64>,
}

/// The rows of sparse gradients on the device, by the positions of the variables.
type RowTables<B> = HashMap<(usize, Elements), B>;

impl<D: Device> Arrays<D> {
    pub(crate) fn new(device: D) -> Self {
        Self { device, states: Vec::new(), totals: HashMap::new(), kernels: HashMap::new() }
    }

    /// Compiles the kernel of a program, unless there is one.
    fn compile(&mut self, program: &Program) -> Result<(), Error> {
        if !self.kernels.contains_key(program) {
            let kernel = self.device.compile(program)?;
            self.kernels.insert(program.clone(), kernel);
        }
        Ok(())
    }
}

impl<'c, 'v, D: Device> Call<'c, 'v, D> {
    pub(crate) fn new(arrays: &'c mut Arrays<D>, variables: &'c [GpuVariable<'v, D>]) -> Self {
        Self { arrays, variables, tables: RowTables::new() }
    }

    /// The gradient of a variable, if it has one.
    fn source(&self, position: usize, place: usize, source: Source) -> Option<&D::Buffer> {
        match source {
            Source::Given => self.variables[position].gradient.as_ref().map(|gradient| gradient.numbers),
            Source::Total => self.arrays.totals.get(&place),
            Source::Sum => self.arrays.states[place].sum.as_ref(),
        }
    }

    /// As [`source`](Self::source), for gradients that the engine knows of.
    fn gradient_of(&self, position: usize, place: usize, source: Source) -> &D::Buffer {
        self.source(position, place, source).expect("the engine knows which variables have gradients")
    }

    /// Puts launches together: one for all updates of the same program.
    fn drafts<'u>(&self, updates: &'u [DeviceUpdate]) -> Vec<Draft<'u>> {
        let mut drafts: Vec<Draft<'u>> = Vec::new();
        let mut of_program: HashMap<Program, usize> = HashMap::new();
        // The draft of an update that several variables share, and the place of its first parameter there.
        let mut of_update: HashMap<(*const Update, usize, Elements), (usize, usize)> = HashMap::new();
        for update in updates {
            let DeviceUpdate { elements, update: shared, place, .. } = update;
            let average = self.arrays.states[*place].slots;
            let (draft, first) = *of_update.entry((Arc::as_ptr(shared), average, *elements)).or_insert_with(|| {
                let program = Program { graph: shared.graph.clone(), average, elements: *elements };
                let draft = *of_program.entry(program.clone()).or_insert_with(|| {
                    drafts.push(Draft { program, updates: Vec::new(), parameters: Vec::new() });
                    drafts.len() - 1
                });
                let parameters = &mut drafts[draft].parameters;
                parameters.extend(&shared.parameters);
                (draft, parameters.len() - shared.parameters.len())
            });
            drafts[draft].updates.push((update, first));
        }
        drafts
    }

    /// Moves the rows of sparse gradients to the device.
    fn row_tables(&self, updates: &[DeviceUpdate]) -> Result<RowTables<D::Buffer>, Error> {
        let mut tables = RowTables::new();
        for DeviceUpdate { position, elements, .. } in updates {
            let variable = &self.variables[*position];
            let table = match elements {
                Elements::All => continue,
                Elements::Rows => variable.rows(),
                Elements::OtherRows => {
                    let mut is_named = vec![0; variable.row_shape(&self.arrays.device).0];
                    variable.rows().iter().for_each(|&row| is_named[row as usize] = 1);
                    is_named
                }
            };
            let table: Vec<f32> = table.into_iter().map(f32::from_bits).collect();
            tables.insert((*position, *elements), self.arrays.device.upload(&table)?);
        }
        Ok(tables)
    }

    /// The buffers of an update.
    fn segment(&self, update: &DeviceUpdate, parameters: usize) -> Segment<'_, D::Buffer> {
        let DeviceUpdate { position, place, source, elements, update } = update;
        let reads = |array| update.graph.arrays().iter().any(|(read, _)| *read == array);
        let variable = &self.variables[*position];
        Segment {
            value: variable.value,
            gradient: reads(Array::Gradient).then(|| self.gradient_of(*position, *place, *source)),
            state: self.arrays.states[*place].arrays.as_ref(),
            rows: self
                .tables
                .get(&(*position, *elements))
                .map(|indices| Rows { indices, width: variable.row_shape(&self.arrays.device).1 }),
            parameters,
        }
    }
}

impl<D: Device, T: Element> Backend<T> for Call<'_, '_, D> {
    type Error = Error;

    fn measure(&mut self, questions: &[Asked]) -> Result<Vec<Measurement>, Error> {
        let asked: Vec<_> = questions
            .iter()
            .map(|&Asked { position, place, source, limit }| Question {
                gradient: self.gradient_of(position, place, source),
                limit,
            })
            .collect();
        let parts = self.arrays.device.measure(&asked)?;
        Ok(parts.iter().map(|parts| measurement(parts)).collect())
    }

    fn gradient(&mut self, position: usize, place: usize, source: Source) -> Result<Vec<T>, Error> {
        Ok(self.arrays.device.download(self.gradient_of(position, place, source), 0)?)
    }

    fn admit(&mut self, state: NewState<T>) -> Result<(), Error> {
        let NewState { place, position, len, arrays, slots, sum } = state;
        let device = &self.arrays.device;
        let kept = match arrays.len() {
            0 => None,
            count => Some(device.allocate(T::DTYPE, count, len)?),
        };
        for (array, initial) in arrays.into_iter().enumerate() {
            let Some(kept) = &kept else { continue };
            let numbers = match (initial, position) {
                // A new buffer has only zeros.
                (Initial::Filled(0.0), _) => continue,
                (Initial::Filled(number), _) => vec![T::literal(number); len],
                (Initial::Copy, Some(position)) => device.download(self.variables[position].value, 0)?,
                (Initial::Copy, None) => unreachable!("the engine gives the position of a variable that is copied"),
                (Initial::Numbers(numbers), _) => numbers,
            };
            device.write(kept, array, bytemuck::cast_slice(&numbers))?;
        }
        let sum = sum.map(|sum| device.upload(&sum)).transpose()?;
        // Places after this one were made by a call that failed, or belong to variables that are forgotten.
        self.arrays.states.truncate(place);
        if position.is_none() {
            // New state takes the place of everything. (A call that makes new variables has totals of its own.)
            self.arrays.totals.clear();
        }
        self.arrays.states.push(State { arrays: kept, slots, sum });
        Ok(())
    }

    fn prepare(&mut self, updates: &[DeviceUpdate]) -> Result<(), Error> {
        self.tables = self.row_tables(updates)?;
        let drafts = self.drafts(updates);
        drafts.iter().try_for_each(|draft| self.arrays.compile(&draft.program))
    }

    fn update(&mut self, updates: &[DeviceUpdate]) -> Result<(), Error> {
        let drafts = self.drafts(updates);
        let launch = |Draft { program, updates, parameters }: Draft<'_>| Launch {
            kernel: &self.arrays.kernels[&program],
            segments: updates.into_iter().map(|(update, first)| self.segment(update, first)).collect(),
            parameters,
        };
        let launches: Vec<Launch<'_, D>> = drafts.into_iter().map(launch).collect();
        Ok(self.arrays.device.run(&launches)?)
    }

    fn total(&mut self, totals: &[Total], factor: f64) -> Result<(), Error> {
        let Arrays { device, totals: memory, .. } = &mut *self.arrays;
        for Total { position, place, .. } in totals {
            let len = device.len(self.variables[*position].value);
            if memory.get(place).is_none_or(|buffer| device.len(buffer) != len) {
                memory.insert(*place, device.allocate(T::DTYPE, 1, len)?);
            }
        }
        let updates = [false, true].map(|has_sum| Update::adding(T::DTYPE, has_sum, factor));
        let programs = updates.map(|Update { graph, parameters, .. }| {
            (Program { graph, average: 1, elements: Elements::All }, parameters)
        });
        programs.iter().try_for_each(|(program, _)| self.arrays.compile(program))?;
        let launch = |(has_sum, (program, parameters)): (bool, &(Program, Vec<f64>))| Launch {
            kernel: &self.arrays.kernels[program],
            segments: totals
                .iter()
                .filter(|total| total.has_sum == has_sum)
                .map(|&Total { position, place, .. }| Segment {
                    value: &self.arrays.totals[&place],
                    gradient: Some(self.gradient_of(position, place, Source::Given)),
                    state: has_sum.then(|| self.gradient_of(position, place, Source::Sum)),
                    rows: None,
                    parameters: 0,
                })
                .collect(),
            parameters: parameters.clone(),
        };
        let launches = [false, true].into_iter().zip(&programs).map(launch);
        let launches: Vec<Launch<'_, D>> = launches.filter(|launch| !launch.segments.is_empty()).collect();
        Ok(self.arrays.device.run(&launches)?)
    }

    fn keep_totals(&mut self, totals: &[Total]) {
        let Arrays { states, totals: memory, .. } = &mut *self.arrays;
        for Total { place, .. } in totals {
            let total = memory.remove(place);
            // The memory of the sum is that of the next total.
            if let Some(sum) = std::mem::replace(&mut states[*place].sum, total) {
                memory.insert(*place, sum);
            }
        }
    }

    fn read(&mut self, place: usize, array: Stored) -> Result<Vec<T>, Error> {
        let State { arrays, slots, sum } = &self.arrays.states[place];
        let (buffer, array) = match array {
            Stored::Slot(slot) => (arrays, slot),
            Stored::Average => (arrays, *slots),
            Stored::Sum => (sum, 0),
        };
        let buffer = buffer.as_ref().expect("the engine reads the arrays that it has made");
        Ok(self.arrays.device.download(buffer, array)?)
    }
}

/// Adds the parts of a gradient, in their order.
fn measurement(parts: &[Part]) -> Measurement {
    let is_finite = parts.iter().all(|part| part.is_finite);
    if parts.iter().any(|part| part.sum.is_infinite()) && !parts.iter().any(|part| part.sum.is_nan()) {
        return Measurement { square_sum: f64::INFINITY, norm: f64::INFINITY, is_finite };
    }
    let exponent = parts.iter().map(|part| part.exponent).max().unwrap_or(0);
    let sum: f64 = parts.iter().map(|part| part.sum * power_of_two(2 * (part.exponent - exponent))).sum();
    let scale = power_of_two(exponent);
    Measurement { square_sum: sum * scale * scale, norm: sum.sqrt() * scale, is_finite }
}

/// A power of two; 0 or infinite if the number is too small or too large.
fn power_of_two(exponent: i32) -> f64 {
    2.0_f64.powi(exponent)
}
