//! Variables in 16 bits with every master, beside a run in 32 bits that starts each call from the masters: the same
//! state, and its variables, rounded. Also through files and weights between any two calls.

use std::fmt::Debug;
use std::io::Cursor;

use half::{bf16, f16};
use ndarray::{ArrayD, Axis, IxDyn, ShapeBuilder};
use opt_conformance::problem::Rng;
use optimizers::checkpoint::{Checkpoint, SaveOptions};
use optimizers::state::{DType, StateValue};
use optimizers::{
    Accumulate, Description, Error, Gradient, Master, MomentStorage, Optimizer, OptimizerBuilder, Outcome, StepReport,
    UpdateRule, Variable, View, ViewMut,
};

use super::rounding::{Half, random_bits};
use super::script::{Cast, Event, FROZEN, HEAD, Rule, Script, VARIABLES, cast, scaled};

type Opt = Optimizer<Box<dyn UpdateRule<f32>>, f32>;

/// Numbers at the limits of both types.
const WILD: [f32; 10] =
    [0.0, -0.0, 65_504.0, -65_519.0, 3e38, 6e-8, -1e-40, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];

/// Numbers of a variable or of a gradient.
#[derive(Debug, Clone)]
enum Numbers {
    Full(ArrayD<f32>),
    Bf16(ArrayD<bf16>),
    F16(ArrayD<f16>),
}

impl Numbers {
    /// Rounds numbers to one of the three types; numbers in 16 bits may be column-major.
    fn drawn(rng: &mut Rng, wide: &ArrayD<f32>) -> Self {
        let column_major = rng.below(2) == 0;
        match rng.below(3) {
            0 => Self::Full(wide.clone()),
            1 => Self::Bf16(laid_out(column_major, wide.mapv(bf16::from_f32))),
            _ => Self::F16(laid_out(column_major, wide.mapv(f16::from_f32))),
        }
    }

    fn half(&self) -> Option<Half> {
        match self {
            Self::Full(_) => None,
            Self::Bf16(_) => Some(Half::Bf16),
            Self::F16(_) => Some(Half::F16),
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Self::Full(_) => DType::F32,
            Self::Bf16(_) => DType::Bf16,
            Self::F16(_) => DType::F16,
        }
    }

    fn wide(&self) -> ArrayD<f32> {
        match self {
            Self::Full(numbers) => numbers.clone(),
            Self::Bf16(numbers) => numbers.mapv(bf16::to_f32),
            Self::F16(numbers) => numbers.mapv(f16::to_f32),
        }
    }

    fn view(&self) -> View<'_, f32> {
        match self {
            Self::Full(numbers) => numbers.into(),
            Self::Bf16(numbers) => View::half(numbers),
            Self::F16(numbers) => View::half(numbers),
        }
    }

    fn view_mut(&mut self) -> ViewMut<'_, f32> {
        match self {
            Self::Full(numbers) => numbers.into(),
            Self::Bf16(numbers) => ViewMut::half(numbers),
            Self::F16(numbers) => ViewMut::half(numbers),
        }
    }

    /// Writes a number to a place, row by row.
    fn write(&mut self, place: usize, number: f32) {
        match self {
            Self::Full(numbers) => *numbers.iter_mut().nth(place).unwrap() = number,
            Self::Bf16(numbers) => *numbers.iter_mut().nth(place).unwrap() = bf16::from_f32(number),
            Self::F16(numbers) => *numbers.iter_mut().nth(place).unwrap() = f16::from_f32(number),
        }
    }

    /// The bits, row by row; every NaN has the same.
    fn bits(&self) -> Vec<u64> {
        match self {
            Self::Full(numbers) => numbers.iter().map(|x| of_number(f64::from(*x))).collect(),
            Self::Bf16(numbers) => numbers.iter().map(|x| of_number(x.to_f64())).collect(),
            Self::F16(numbers) => numbers.iter().map(|x| of_number(x.to_f64())).collect(),
        }
    }
}

fn laid_out<H: Copy + Default>(column_major: bool, numbers: ArrayD<H>) -> ArrayD<H> {
    if !column_major {
        return numbers;
    }
    let mut columns = ArrayD::default(IxDyn(numbers.shape()).f());
    columns.assign(&numbers);
    columns
}

fn of_number(x: f64) -> u64 {
    if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() }
}

/// A gradient as a step gets it: its rows, if it is sparse, and its numbers.
type Given = Option<(Option<Vec<usize>>, Numbers)>;

fn gradient(given: &Given) -> Option<Gradient<'_, f32>> {
    given.as_ref().map(|(rows, values)| match rows {
        None => values.view().into(),
        Some(rows) => Gradient::sparse(rows, values.view()),
    })
}

/// Everything that a training depends on, bit for bit, without the slots of masters.
type Bits = Vec<(String, Vec<u64>)>;

fn slots(opt: &Opt) -> Bits {
    let weights = opt.weights().into_iter();
    let weights = weights.filter(|entry| !Master::SLOTS.iter().any(|slot| entry.name.ends_with(&format!("/{slot}"))));
    weights.map(|entry| (entry.name, entry.value.to_f64().into_iter().map(of_number).collect())).collect()
}

fn named<'a>(names: &[&'static str], values: &'a mut [Numbers]) -> Vec<Variable<'a, f32>> {
    names.iter().zip(values).map(|(name, value)| Variable::new(*name, value.view_mut())).collect()
}

/// A training of variables in 32 and in 16 bits.
struct Halves {
    opt: Opt,
    names: Vec<&'static str>,
    values: Vec<Numbers>,
    master: Master,
    /// The same in 32 bits.
    control: Opt,
    wide: Vec<Numbers>,
    rng: Rng,
    context: String,
}

impl Halves {
    fn new(
        builder: impl Fn() -> OptimizerBuilder<Rule, f32>,
        variables: Vec<(&'static str, ArrayD<f32>)>,
        master: Master,
        threads: usize,
        seed: u64,
    ) -> Self {
        let mut rng = Rng(seed);
        let (names, wide): (Vec<_>, Vec<_>) = variables.into_iter().unzip();
        let values = wide.iter().map(|wide| Numbers::drawn(&mut rng, wide)).collect();
        let wide = wide.into_iter().map(Numbers::Full).collect();
        let opt = builder().boxed().master(master).threads(threads).build().unwrap();
        let control = builder().boxed().threads(1).build().unwrap();
        Self { opt, names, values, master, control, wide, rng, context: String::new() }
    }

    /// The number of each element that an update starts from.
    fn masters(&self, which: usize) -> Vec<f64> {
        let value = &self.values[which];
        let Some(half) = value.half() else { return value.wide().iter().map(|w| f64::from(*w)).collect() };
        let known = Master::SLOTS.iter().find_map(|slot| self.opt.slot(self.names[which], slot).ok());
        let bits: Vec<u16> = match value {
            Numbers::Bf16(numbers) => numbers.iter().map(|x| x.to_bits()).collect(),
            Numbers::F16(numbers) => numbers.iter().map(|x| x.to_bits()).collect(),
            Numbers::Full(_) => unreachable!("it is in 16 bits"),
        };
        match known.map(|slot| slot.to_f64()) {
            Some(kept) => bits.iter().zip(kept).map(|(bits, kept)| half.master(self.master, *bits, kept)).collect(),
            None => bits.iter().map(|bits| half.number(*bits)).collect(),
        }
    }

    /// Does the same on both sides, and compares the results. `act` is told whether its side is the one in 32 bits.
    fn both<O: PartialEq + Debug>(&mut self, act: impl Fn(&mut Opt, &[&'static str], &mut [Numbers], bool) -> O) -> O {
        for which in 0..self.values.len() {
            let masters = self.masters(which).into_iter().map(|master| master as f32);
            let Numbers::Full(wide) = &mut self.wide[which] else { unreachable!("it is in 32 bits") };
            wide.iter_mut().zip(masters).for_each(|(w, master)| *w = master);
        }
        let step = self.opt.iterations();
        let done = act(&mut self.opt, &self.names, &mut self.values, false);
        assert_eq!(done, act(&mut self.control, &self.names, &mut self.wide, true), "{}", self.context);
        assert!(slots(&self.opt) == slots(&self.control), "{}", self.context);
        let seed = match self.master {
            Master::Bits24 { seed } | Master::None { seed } => seed,
            _ => 0,
        };
        for (which, name) in self.names.iter().enumerate() {
            let wide: Vec<f64> = self.wide[which].wide().into_iter().map(f64::from).collect();
            let random = random_bits(seed, step, name);
            self.compare(which, &wide, |half, i| half.rounded(self.master, wide[i], random(i)));
        }
        done
    }

    /// Compares a variable, and its masters if it is in 16 bits, with the expected numbers.
    fn compare(&self, which: usize, wide: &[f64], rounded: impl Fn(Half, usize) -> (u16, f64)) {
        let (value, context) = (&self.values[which], format!("{}: {}", self.names[which], self.context));
        let bits = value.bits();
        let Some(half) = value.half() else {
            assert!(bits.into_iter().eq(wide.iter().copied().map(of_number)), "{context}");
            return;
        };
        for (i, (got, master)) in bits.into_iter().zip(self.masters(which)).enumerate() {
            let (bits, want) = rounded(half, i);
            let same = got == of_number(half.number(bits)) && of_number(master) == of_number(want);
            let (got, of) = (f64::from_bits(got), wide[i]);
            assert!(same, "{i}: {got:e} and {master:e}, not {want:e} of {of:e}: {context}");
        }
    }

    /// Everything, with the slots of masters.
    fn bits(&self) -> Bits {
        let weights = self.opt.weights().into_iter();
        let state = weights.map(|entry| (entry.name, entry.value.to_f64().into_iter().map(of_number).collect()));
        let values = self.names.iter().zip(&self.values).map(|(name, value)| ((*name).to_owned(), value.bits()));
        state.chain(values).collect()
    }

    /// The caller writes into a variable.
    fn write(&mut self, wild: bool) {
        let which = self.rng.below(self.values.len());
        let len = self.values[which].bits().len();
        for _ in 0..=self.rng.below(len) {
            let number = if wild { WILD[self.rng.below(WILD.len())] } else { self.rng.number() as f32 };
            let place = self.rng.below(len);
            self.values[which].write(place, number);
        }
    }

    /// Another optimizer takes over: from the configuration, from a file, or with other threads.
    fn resume(&mut self, script: &Script, moments: MomentStorage) {
        let before = self.bits();
        let next = match self.rng.below(4) {
            0 => return,
            1 => self.of_file(),
            2 => self.of_config(),
            _ => self.of_builder(script, moments),
        };
        self.opt = next;
        assert!(self.bits() == before, "{}", self.context);
    }

    fn of_file(&mut self) -> Opt {
        let mut file = Cursor::new(Vec::new());
        SaveOptions::new().write(&mut file, &self.opt, &named(&self.names, &mut self.values)).unwrap();
        let file = Checkpoint::from_bytes(file.into_inner()).unwrap();
        let mut next = Optimizer::from_config(file.config().unwrap(), &optimizers::registry()).unwrap();
        for value in &mut self.values {
            (0..value.bits().len()).for_each(|place| value.write(place, 1.0));
        }
        file.load(&mut next, &mut named(&self.names, &mut self.values)).unwrap();
        next
    }

    /// The variables that the optimizer knows, in its order.
    fn known(&mut self) -> Vec<Variable<'_, f32>> {
        let names: Vec<String> = self.opt.variables().map(|(name, _)| name.to_owned()).collect();
        let place = |variable: &Variable<'_, f32>| names.iter().position(|name| name == variable.name());
        let mut variables = named(&self.names, &mut self.values);
        variables.retain(|variable| place(variable).is_some());
        variables.sort_by_key(place);
        variables
    }

    fn of_config(&mut self) -> Opt {
        let config = self.opt.to_config().unwrap();
        let mut next = Optimizer::from_config(&config, &optimizers::registry()).unwrap();
        let weights: Vec<StateValue<'static, f32>> = self.opt.weights().into_iter().map(StateValue::from).collect();
        next.restore(&mut self.known(), weights).unwrap();
        assert_eq!(next.to_config().unwrap(), config);
        next
    }

    fn of_builder(&mut self, script: &Script, moments: MomentStorage) -> Opt {
        let builder = script.builder().boxed().moments(moments).master(self.master);
        let mut next = builder.threads(1 + self.rng.below(4)).build().unwrap();
        let (is_frozen, rate) = (self.opt.groups()[1].frozen, self.opt.groups()[3].learning_rate);
        let weights: Vec<StateValue<'static, f32>> = self.opt.weights().into_iter().map(StateValue::from).collect();
        next.unfreeze(FROZEN).unwrap();
        let mut known = self.known();
        if !known.is_empty() {
            next.add_variables(&mut known).unwrap();
        }
        next.set_weights(weights).unwrap();
        next.set_group_learning_rate(HEAD, rate).unwrap();
        if is_frozen {
            next.freeze(FROZEN).unwrap();
        }
        next
    }

    /// Averages are swapped in and back. A master takes what the caller has written.
    fn look_at_averages(&mut self) {
        let bits = |run: &Self| {
            let masters: Vec<Vec<u64>> =
                (0..run.values.len()).map(|which| run.masters(which).into_iter().map(of_number).collect()).collect();
            let values: Vec<Vec<u64>> = run.values.iter().map(Numbers::bits).collect();
            (slots(&run.opt), masters, values)
        };
        let before = bits(self);
        drop(self.opt.swap_in_averages(&mut named(&self.names, &mut self.values)).unwrap());
        assert!(bits(self) == before, "{}", self.context);
    }

    /// Averages replace the variables that have some.
    fn finalize(&mut self) {
        let average = |name: &&str| self.opt.slot(name, "average").ok().map(|average| average.to_f64());
        let averages: Vec<Option<Vec<f64>>> = self.names.iter().map(average).collect();
        self.opt.finalize_variable_values(&mut named(&self.names, &mut self.values)).unwrap();
        for (which, average) in averages.iter().enumerate() {
            let Some(average) = average else { continue };
            self.compare(which, average, |half, i| half.replaced(self.master, average[i]));
        }
    }

    fn event(&mut self, event: Event) {
        self.both(|opt, names, values, _| match event {
            Event::Freeze => opt.freeze(FROZEN).map(|()| None),
            Event::Unfreeze => opt.unfreeze(FROZEN).map(|()| None),
            Event::Rate(rate) => opt.set_group_learning_rate(HEAD, rate).map(|()| None),
            Event::Flush => opt.flush(&mut named(names, values)).map(|report| Some(report.outcome)),
            Event::Discard => {
                opt.discard_accumulated();
                Ok(None)
            }
        })
        .unwrap();
    }

    /// A call with gradients in drawn types: in phases, in order, or in the opposite order.
    fn call(&mut self, gradients: &[Cast<f32>]) -> Outcome {
        let rng = &mut self.rng;
        let given = gradients.iter().map(|gradient| {
            let (rows, values) = gradient.as_ref()?;
            Some((rows.clone(), Numbers::drawn(rng, values)))
        });
        let given: Vec<Given> = given.collect();
        let widened = |(rows, values): &(Option<Vec<usize>>, Numbers)| (rows.clone(), Numbers::Full(values.wide()));
        let wide: Vec<Given> = given.iter().map(|given| given.as_ref().map(widened)).collect();
        let order = rng.below(3);
        let report = self.both(|opt, names, values, is_wide| {
            let given = if is_wide { &wide } else { &given };
            if order == 0 && !is_wide {
                return in_phases(opt, names, values, given).map(|report| report.outcome);
            }
            let variables = named(names, values).into_iter().zip(given);
            let mut variables: Vec<_> =
                variables.map(|(variable, given)| variable.optional_gradient(gradient(given))).collect();
            if order == 1 {
                variables.reverse();
            }
            opt.apply_gradients(variables).map(|report| report.outcome)
        });
        report.unwrap()
    }
}

/// A step whose variables are lent one at a time, the last one first.
fn in_phases(
    opt: &mut Opt,
    names: &[&'static str],
    values: &mut [Numbers],
    given: &[Given],
) -> Result<StepReport, Error> {
    let described = names.iter().zip(&*values).zip(given).map(|((name, value), given)| {
        let shape = value.wide().shape().to_vec();
        Description::new(*name, shape).dtype(value.dtype()).optional_gradient(gradient(given))
    });
    let mut step = opt.begin(described)?;
    for (i, value) in values.iter_mut().enumerate().rev() {
        step.update(i, value.view_mut())?;
    }
    step.finish()
}

/// The masters of a seed.
fn drawn(seed: u64) -> Master {
    match seed % 3 {
        0 => Master::Full,
        1 => Master::Bits24 { seed },
        _ => Master::None { seed },
    }
}

#[test]
fn every_master_is_that_of_naive_rounding() {
    let storages = [MomentStorage::Full, MomentStorage::Bf16 { seed: 3 }, MomentStorage::Float8 { seed: 3 }];
    let mut applied = 0;
    for seed in 0..24 {
        let (script, master) = (Script::new(seed), drawn(seed));
        let moments = storages[Rng(seed).below(3)];
        let variables = VARIABLES.iter().zip(script.start()).map(|((name, _), value)| (*name, value)).collect();
        let mut run = Halves::new(|| script.builder().moments(moments), variables, master, 1, seed);
        for number in 0..script.calls.len() {
            run.context = format!("seed {seed}, call {number}, {master:?}, {moments:?}");
            if run.rng.below(3) == 0 {
                run.write(seed % 2 == 1 && number > 16);
            }
            run.resume(&script, moments);
            if run.opt.iterations() > 0 && run.rng.below(4) == 0 {
                run.look_at_averages();
            }
            let call = &script.calls[number];
            call.events.iter().for_each(|event| run.event(*event));
            let gradients = cast::<f32>(&scaled(&call.gradients, run.opt.loss_scale()));
            applied += usize::from(run.call(&gradients) == Outcome::Applied);
        }
        run.finalize();
    }
    assert!(applied > 100, "{applied}");
}

/// Variables that are large enough to be divided between threads.
#[test]
fn threads_change_no_bit() {
    let shapes = [
        ("dense/bias", [1, 3]),
        ("emb/rows", [5, 2]),
        ("dense/kernel", [170, 800]),
        ("head/kernel", [300, 500]),
        ("x/norm", [9, 9_000]),
    ];
    for (seed, threads) in (0..6).zip([1, 3, 2, 7, 3, 4]) {
        let (master, mut rng) = (drawn(seed), Rng(seed));
        let mut array = |shape: [usize; 2]| rng.array(&shape).mapv(|x| (x * 4.0) as f32);
        let builder = || Script::new(seed).builder().accumulate(Accumulate::sum(2));
        let variables = shapes.map(|(name, shape)| (name, array(shape))).into();
        let mut run = Halves::new(builder, variables, master, threads, seed);
        for call in 0..6_usize {
            run.context = format!("call {call}, {threads} threads, {master:?}");
            let scale = run.opt.loss_scale() as f32;
            let rows: Vec<usize> = (0..150).map(|row| (row * 7 + call) % 300).collect();
            let gradients = shapes.map(|(name, shape)| {
                let gradient = array(shape) * scale;
                let is_sparse = name == "head/kernel" && call % 3 == 1;
                Some(match is_sparse {
                    true => (Some(rows.clone()), gradient.select(Axis(0), &rows)),
                    false => (None, gradient),
                })
            });
            run.call(&gradients);
        }
        assert_eq!(run.opt.iterations(), 3);
    }
}
