//! The arrays of an optimizer on a device, and what the engine does with them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use opt_core::device::{
    Backend, DeviceUpdate, Elements, Initial, Measurement, NewArray, NewState, Question as Asked, Source, Stored, Total,
};
use opt_core::state::DType;
use opt_core::trace::{Array, Draws, Node, Update};

use crate::device::{Device, Element, Launch, Part, Program, Question, Rows, Segment};
use crate::error::Error;
use crate::numbers::{from_bytes, to_bytes};
use crate::variable::GpuVariable;

/// The arrays of all variables, and the kernels that were needed so far.
#[derive(Debug)]
pub(crate) struct Arrays<D: Device> {
    pub(crate) device: D,
    /// By the places of the variables.
    states: Vec<State<D>>,
    /// The arrays that states have.
    layouts: Vec<Layout>,
    /// Memory for totals, by the places of their variables. The numbers are those of the last call that computed them.
    totals: HashMap<usize, D::Buffer>,
    kernels: HashMap<Program, D::Kernel>,
}

/// The arrays of a variable.
#[derive(Debug)]
struct State<D: Device> {
    /// Nothing if there are no arrays.
    arrays: Option<D::Buffer>,
    /// The number of its layout.
    layout: usize,
    /// The sum of the gradients of earlier calls; its numbers mean nothing if the engine does not know of it.
    sum: Option<D::Buffer>,
}

/// The arrays of a state, in their order, and the types in which they are stored.
type Layout = Vec<(Array, DType)>;

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

/// What variables have in common whose updates have the same program: the recorded update, the elements, the number of
/// the layout, the types of variable and gradient.
type Shared = (*const Update, Elements, usize, [DType; 2]);

/// The rows of sparse gradients on the device, by the positions of the variables.
type RowTables<B> = HashMap<(usize, Elements), B>;

impl<D: Device> Arrays<D> {
    pub(crate) fn new(device: D) -> Self {
        Self { device, states: Vec::new(), layouts: Vec::new(), totals: HashMap::new(), kernels: HashMap::new() }
    }

    /// The number of a layout.
    fn layout(&mut self, layout: Layout) -> usize {
        self.layouts.iter().position(|known| *known == layout).unwrap_or_else(|| {
            self.layouts.push(layout);
            self.layouts.len() - 1
        })
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
        // The draft of an update that several variables share, and the place there of its own parameters, once they are
        // there.
        let mut of_update: HashMap<Shared, (usize, Option<usize>)> = HashMap::new();
        for update in updates {
            let DeviceUpdate { elements, update: shared, parameters, position, place, source, .. } = update;
            let layout = self.arrays.states[*place].layout;
            let dtype = |buffer| self.arrays.device.dtype(buffer, 0);
            let value = dtype(self.variables[*position].value);
            let gradient = self.source(*position, *place, *source).filter(|_| reads_gradient(shared));
            let gradient = gradient.map_or(shared.graph.dtype, dtype);
            let key = (Arc::as_ptr(shared), *elements, layout, [value, gradient]);
            let (draft, first) = of_update.entry(key).or_insert_with(|| {
                let (graph, state) = (shared.graph.clone(), self.arrays.layouts[layout].clone());
                let program = Program { graph, elements: *elements, value, gradient, state };
                let draft = *of_program.entry(program.clone()).or_insert_with(|| {
                    drafts.push(Draft { program, updates: Vec::new(), parameters: Vec::new() });
                    drafts.len() - 1
                });
                (draft, None)
            });
            let Draft { updates, parameters: all, .. } = &mut drafts[*draft];
            let mut add = |numbers: &[f64]| {
                all.extend(numbers);
                all.len() - numbers.len()
            };
            let first = match parameters {
                Some(own) => add(own),
                None => *first.get_or_insert_with(|| add(&shared.parameters)),
            };
            updates.push((update, first));
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
        let DeviceUpdate { position, place, source, elements, update, draws, .. } = update;
        let variable = &self.variables[*position];
        Segment {
            value: variable.value,
            gradient: reads_gradient(update).then(|| self.gradient_of(*position, *place, *source)),
            state: self.arrays.states[*place].arrays.as_ref(),
            rows: self
                .tables
                .get(&(*position, *elements))
                .map(|indices| Rows { indices, width: variable.row_shape(&self.arrays.device).1 }),
            parameters,
            draws: *draws,
        }
    }

    /// Copies a variable into arrays of its state.
    fn copy_variable(
        &mut self,
        position: usize,
        state: &D::Buffer,
        layout: &Layout,
        copies: &Update,
    ) -> Result<(), Error> {
        let Update { graph, parameters, .. } = copies.clone();
        let (value, gradient) = (self.variables[position].value, graph.dtype);
        let dtype = self.arrays.device.dtype(value, 0);
        let program = Program { graph, elements: Elements::All, value: dtype, gradient, state: layout.clone() };
        self.arrays.compile(&program)?;
        let (state, draws) = (Some(state), Draws::default());
        let segments = vec![Segment { value, gradient: None, state, rows: None, parameters: 0, draws }];
        Ok(self.arrays.device.run(&[Launch { kernel: &self.arrays.kernels[&program], segments, parameters }])?)
    }

    /// The numbers of an array of a buffer, which are stored in this type.
    fn numbers<T: Element>(&self, buffer: &D::Buffer, array: usize, dtype: DType) -> Result<Vec<T>, Error> {
        Ok(from_bytes(&self.arrays.device.read(buffer, array)?, dtype))
    }
}

/// Whether an update reads the gradient.
fn reads_gradient(update: &Update) -> bool {
    update.graph.nodes.contains(&Node::Load(Array::Gradient))
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
        let gradient = self.gradient_of(position, place, source);
        self.numbers(gradient, 0, self.arrays.device.dtype(gradient, 0))
    }

    fn admit(&mut self, state: NewState<T>) -> Result<(), Error> {
        let NewState { place, position, len, arrays, sum } = state;
        let device = &self.arrays.device;
        let layout: Layout = arrays.iter().map(|new| (new.array, new.dtype)).collect();
        let dtypes: Vec<DType> = layout.iter().map(|(_, dtype)| *dtype).collect();
        let kept = if dtypes.is_empty() { None } else { Some(device.allocate(&dtypes, len)?) };
        let mut copies = Vec::new();
        for (number, NewArray { array, dtype, initial }) in arrays.into_iter().enumerate() {
            let Some(kept) = &kept else { continue };
            let numbers = match initial {
                // A new buffer has only zeros.
                Initial::Filled(0.0) => continue,
                Initial::Filled(number) => vec![T::literal(number); len],
                Initial::Copy => {
                    copies.push((array, Array::Value));
                    continue;
                }
                Initial::Numbers(numbers) => numbers,
            };
            device.write(kept, number, &to_bytes(&numbers, dtype))?;
        }
        if let (Some(kept), Some(position), false) = (&kept, position, copies.is_empty() || len == 0) {
            self.copy_variable(position, kept, &layout, &Update::copying(T::DTYPE, &copies))?;
        }
        let sum = sum.map(|sum| self.arrays.device.upload(&sum)).transpose()?;
        // Places after this one were made by a call that failed, or belong to variables that are forgotten.
        self.arrays.states.truncate(place);
        if position.is_none() {
            // New state takes the place of everything. (A call that makes new variables has totals of its own.)
            self.arrays.totals.clear();
        }
        let layout = self.arrays.layout(layout);
        self.arrays.states.push(State { arrays: kept, layout, sum });
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
        // By what a launch has in common: whether there are sums, and the type of the gradients.
        let mut alike: BTreeMap<(bool, DType), Vec<Total>> = BTreeMap::new();
        for &total in totals {
            let Total { position, place, has_sum } = total;
            let len = device.len(self.variables[position].value);
            if memory.get(&place).is_none_or(|buffer| device.len(buffer) != len) {
                memory.insert(place, device.allocate(&[T::DTYPE], len)?);
            }
            let gradient = self.variables[position].gradient.as_ref();
            let dtype = gradient.map_or(T::DTYPE, |gradient| device.dtype(gradient.numbers, 0));
            alike.entry((has_sum, dtype)).or_default().push(total);
        }
        let programs = alike.keys().map(|&(has_sum, gradient)| {
            let Update { graph, parameters, .. } = Update::adding(T::DTYPE, has_sum, factor);
            let state = vec![(Array::Slot(0), T::DTYPE)];
            (Program { graph, elements: Elements::All, value: T::DTYPE, gradient, state }, parameters)
        });
        let programs: Vec<_> = programs.collect();
        programs.iter().try_for_each(|(program, _)| self.arrays.compile(program))?;
        let launch = |((program, parameters), totals): (&(Program, Vec<f64>), &Vec<Total>)| Launch {
            kernel: &self.arrays.kernels[program],
            segments: totals
                .iter()
                .map(|&Total { position, place, has_sum }| Segment {
                    value: &self.arrays.totals[&place],
                    gradient: Some(self.gradient_of(position, place, Source::Given)),
                    state: has_sum.then(|| self.gradient_of(position, place, Source::Sum)),
                    rows: None,
                    parameters: 0,
                    draws: Draws::default(),
                })
                .collect(),
            parameters: parameters.clone(),
        };
        let launches: Vec<Launch<'_, D>> = programs.iter().zip(alike.values()).map(launch).collect();
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
        let State { arrays, layout, sum } = &self.arrays.states[place];
        let (buffer, array, dtype) = match array {
            Stored::Array(array) => {
                let layout = &self.arrays.layouts[*layout];
                let place = layout.iter().position(|(known, _)| *known == array);
                let place = place.expect("the engine reads the arrays that it has made");
                (arrays, place, layout[place].1)
            }
            Stored::Sum => (sum, 0, T::DTYPE),
        };
        let buffer = buffer.as_ref().expect("the engine reads the arrays that it has made");
        self.numbers(buffer, array, dtype)
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
