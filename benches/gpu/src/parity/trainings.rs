//! The trainings that are compared: every rule, every option, special numbers, sparse rows.

use opt_core::state::DType;
use opt_gpu::device::Element;
use optimizers::{
    Adam, AdamW, Ema, Lookahead, Master, MomentStorage, Nadam, NovoGrad, Optimizer, OptimizerBuilder, RectifiedAdam,
    Sgd, UpdateRule,
};

use super::stored::Stored;

pub(super) type Builder<T> = OptimizerBuilder<Box<dyn UpdateRule<T>>, T>;

/// The variables of each training. The first one is measured in several parts.
pub(super) const VARIABLES: [(&str, &[usize]); 4] =
    [("dense/kernel", &[257, 129]), ("dense/bias", &[7]), ("embedding", &[90, 5]), ("temperature", &[])];

/// Rectified Adam is rectified from the sixth step on.
const STEPS: u64 = 8;

/// A gradient on the host.
#[derive(Debug)]
pub(super) enum Gradient<T> {
    Dense(Stored<T>),
    Rows(Vec<usize>, Stored<T>),
}

/// The kind of gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Numbers of few digits.
    Dyadic,
    /// The same, but for a few numbers that are denormal, infinite or not a number.
    Special,
    /// Some rows of the embedding.
    Rows,
}

/// A training.
#[derive(Debug)]
pub(super) struct Training<T> {
    pub(super) name: String,
    pub(super) steps: u64,
    /// The type in which variables and gradients are stored.
    pub(super) stored: DType,
    /// Whether numbers are rounded to 16 bits.
    pub(super) rounds: bool,
    kind: Kind,
    rule: fn() -> Builder<T>,
    option: fn(Builder<T>) -> Builder<T>,
}

type Rule<T> = (&'static str, fn() -> Builder<T>);
type Choice<T> = (&'static str, fn(Builder<T>) -> Builder<T>);

/// The element types of trainings.
pub(super) trait Trained: Element {
    /// All trainings. This is no generic function, so that the rules are compiled once, for all devices.
    fn trainings() -> Vec<Training<Self>>;
}

impl Trained for f32 {
    fn trainings() -> Vec<Training<Self>> {
        all().into_iter().chain(in_16_bits()).collect()
    }
}

impl Trained for f64 {
    fn trainings() -> Vec<Training<Self>> {
        all()
    }
}

/// Each rule alone and with options in turn, Adam with each option, and special gradients.
fn all<T: Element>() -> Vec<Training<T>> {
    let (rules, options) = (rules::<T>(), options::<T>());
    let alone: Choice<T> = ("", |builder| builder);
    let with_rows: [Rule<T>; 2] = [rules[1], rules[4]];
    let plain = rules.iter().map(|&rule| (rule, alone, Kind::Dyadic));
    let composed = rules.iter().zip(composed::<T>().into_iter().cycle()).map(|(&rule, all)| (rule, all, Kind::Dyadic));
    let single = options.map(|option| (rules[2], option, Kind::Dyadic));
    let special = rules.iter().filter(|(name, _)| !name.contains("NovoGrad")).map(|&rule| (rule, alone, Kind::Special));
    let rows = with_rows.map(|rule| (rule, alone, Kind::Rows));
    let training = |((rule, builder), (option, with), kind): (Rule<T>, Choice<T>, Kind)| {
        let special = match kind {
            Kind::Dyadic => "",
            Kind::Special => "special numbers",
            Kind::Rows => "sparse rows",
        };
        let words: Vec<&str> = [rule, option, special].into_iter().filter(|word| !word.is_empty()).collect();
        Training {
            name: words.join(", "),
            steps: STEPS,
            stored: T::DTYPE,
            rounds: false,
            kind,
            rule: builder,
            option: with,
        }
    };
    plain.chain(composed).chain(single).chain(special).chain(rows).map(training).collect()
}

/// Moments and variables in 16 bits. Stochastic rounding makes a difference in the last digit of 32 bits one in the
/// last digit of 16 bits, so they are compared only where bits are promised.
fn in_16_bits() -> Vec<Training<f32>> {
    let options: [Choice<f32>; 4] = [
        ("moments in bf16", |builder| builder.moments(MomentStorage::Bf16 { seed: 1 })),
        ("master in full", |builder| builder),
        ("master in 24 bits", |builder| builder.master(Master::Bits24 { seed: 1 })),
        ("no master", |builder| builder.master(Master::None { seed: 1 }).moments(MomentStorage::Bf16 { seed: 1 })),
    ];
    let kinds = [(Kind::Dyadic, ""), (Kind::Special, ", special numbers"), (Kind::Rows, ", sparse rows")];
    let types = [(DType::F32, "f32"), (DType::Bf16, "bf16"), (DType::F16, "f16")];
    let mut trainings = Vec::new();
    for (stored, dtype) in types {
        for (option, with) in if stored == DType::F32 { &options[..1] } else { &options[..] } {
            for (kind, special) in kinds {
                let name = format!("AdamW, variables in {dtype}, {option}{special}");
                let rule = || of(AdamW::new(0.125)).ema(Ema::new(0.75));
                trainings.push(Training { name, steps: STEPS, stored, rounds: true, kind, rule, option: *with });
            }
        }
    }
    trainings
}

fn rules<T: Element>() -> [Rule<T>; 8] {
    [
        ("Sgd", || of(Sgd::new(0.125))),
        ("Sgd with momentum", || of(Sgd::new(0.125).momentum(0.875).nesterov(true))),
        ("Adam", || of(Adam::new(0.125).amsgrad(true))),
        ("AdamW", || of(AdamW::new(0.125))),
        ("Nadam", || of(Nadam::new(0.125))),
        ("RectifiedAdam", || of(RectifiedAdam::new(0.125))),
        ("NovoGrad", || of(NovoGrad::new(0.125).weight_decay(0.0625).grad_averaging(true))),
        ("Lookahead(RectifiedAdam)", || of(Lookahead::new(RectifiedAdam::new(0.125)).sync_period(3))),
    ]
}

fn options<T: Element>() -> [Choice<T>; 5] {
    [
        ("weight decay", |builder| builder.weight_decay(0.0625)),
        ("ema", |builder| builder.ema(Ema::new(0.75).overwrite_every(3))),
        ("clipvalue", |builder| builder.clipvalue(0.5)),
        ("clipnorm", |builder| builder.clipnorm(0.5)),
        ("global_clipnorm", |builder| builder.global_clipnorm(2.0)),
    ]
}

/// Weight decay, an average, and each clip.
fn composed<T: Element>() -> [Choice<T>; 3] {
    [
        ("weight decay, ema, clipvalue", |builder| builder.weight_decay(0.0625).ema(Ema::new(0.75)).clipvalue(0.5)),
        ("weight decay, ema, clipnorm", |builder| builder.weight_decay(0.0625).ema(Ema::new(0.75)).clipnorm(0.5)),
        ("weight decay, ema, global_clipnorm", |builder| {
            builder.weight_decay(0.0625).ema(Ema::new(0.75)).global_clipnorm(2.0)
        }),
    ]
}

/// Boxes the rule, so that all rules fit into one list.
fn of<T: Element>(rule: impl UpdateRule<T> + 'static) -> Builder<T> {
    Optimizer::builder(rule).boxed()
}

impl<T: Element> Training<T> {
    pub(super) fn builder(&self) -> Builder<T> {
        (self.option)((self.rule)())
    }

    /// The gradients of all variables in a step.
    pub(super) fn gradients(&self, step: u64) -> Vec<Gradient<T>> {
        let stored = |numbers| Stored::new(self.stored, numbers);
        let dense = |((_, shape), number): (&(&str, &[usize]), u64)| {
            let mut numbers: Vec<T> = dyadic(100 * step + number + 7, shape.iter().product());
            if number == 0 && self.kind == Kind::Special {
                // A few elements, other ones in each step.
                let some = numbers.iter_mut().skip(step as usize).step_by(101);
                let special = SPECIAL.iter().cycle().skip(step as usize);
                some.zip(special).for_each(|(number, &special)| *number = T::literal(special));
            }
            Gradient::Dense(stored(numbers))
        };
        let mut gradients: Vec<Gradient<T>> = VARIABLES.iter().zip(0..).map(dense).collect();
        if self.kind == Kind::Rows {
            let rows: Vec<usize> =
                (0..90).filter(|row| (row + step).is_multiple_of(3)).map(|row| row as usize).collect();
            let numbers = dyadic(step + 3, 5 * rows.len());
            gradients[2] = Gradient::Rows(rows, stored(numbers));
        }
        gradients
    }
}

const SPECIAL: [f64; 13] = [
    1e-45,
    -1e-39,
    1.2e-38,
    -1e-30,
    5e-324,
    -2e-308,
    -0.0,
    1e30,
    -3.4e38,
    1e300,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

impl<T> Gradient<T> {
    pub(super) fn numbers(&self) -> &Stored<T> {
        match self {
            Self::Dense(numbers) | Self::Rows(_, numbers) => numbers,
        }
    }
}

/// Numbers of few digits: the sums of their squares are exact in any order.
pub(super) fn dyadic<T: Element>(seed: u64, len: usize) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) % 257) as f64 / 64.0 - 2.0
    };
    (0..len).map(|_| T::literal(next())).collect()
}
