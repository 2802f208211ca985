//! The contestants: every rule alone, and the usual compositions.

use optimizers::{
    Accumulate, Adam, AdamW, DynOptimizer, Ema, Error, Group, Lookahead, Master, MomentStorage, Nadam, NovoGrad,
    Optimizer, OptimizerBuilder, RectifiedAdam, Sgd, UpdateRule,
};

use crate::Element;
use crate::traffic::{Sweep, Traffic};

/// A builder of any rule.
pub type Builder<T> = OptimizerBuilder<Box<dyn UpdateRule<T>>, T>;

/// More micro-steps than a benchmark makes, so that all of them only add: the sum takes the place of the variable in
/// the traffic.
const ENDLESS: u64 = 1 << 40;

/// The period of Lookahead; peers use the same.
pub const LOOKAHEAD_PERIOD: usize = 6;

/// A composition, the fewest bytes that its steps must move, and its constructor.
#[derive(Debug, Clone, Copy)]
pub struct Contestant<T> {
    /// The name in results.
    pub name: &'static str,
    /// The arrays that a step must read and write.
    pub traffic: Traffic,
    builder: fn() -> Builder<T>,
}

impl<T: Element> Contestant<T> {
    /// The optimizer, on this many threads.
    ///
    /// # Errors
    ///
    /// When the threads cannot be started.
    pub fn build(&self, threads: usize) -> Result<DynOptimizer<T>, Error> {
        self.builder().threads(threads).build()
    }

    /// The optimizer, not yet built.
    #[must_use]
    pub fn builder(&self) -> Builder<T> {
        (self.builder)()
    }
}

/// Add an entry to add a contestant. Learning rates are small: weights stay of the order of 1 for thousands of steps.
#[must_use]
pub fn contestants<T: Element>() -> Vec<Contestant<T>> {
    const PLAIN: Traffic = Traffic::state(0);
    const ONE: Traffic = Traffic::state(1);
    const TWO: Traffic = Traffic::state(2);
    const NOVOGRAD: Traffic = ONE.after(Sweep::ByVariable);
    const K: usize = LOOKAHEAD_PERIOD;
    let contestant = |name, traffic, builder| Contestant { name, traffic, builder };
    let all = vec![
        contestant("sgd", PLAIN, || of(Sgd::new(1e-5))),
        contestant("momentum", ONE, || of(momentum())),
        contestant("nesterov", ONE, || of(momentum().nesterov(true))),
        contestant("adam", TWO, || of(adam())),
        contestant("adam-amsgrad", Traffic::state(3), || of(adam().amsgrad(true))),
        contestant("adamw", TWO, || of(AdamW::new(1e-5))),
        contestant("nadam", TWO, || of(nadam())),
        contestant("radam", TWO, || of(radam())),
        contestant("radam-amsgrad", Traffic::state(3), || of(radam().amsgrad(true))),
        contestant("novograd", NOVOGRAD, || of(novograd())),
        contestant("clip-momentum", ONE.after(Sweep::All), || clip(momentum())),
        contestant("clip-adam", TWO.after(Sweep::All), || clip(adam())),
        contestant("clip-nadam", TWO.after(Sweep::All), || clip(nadam())),
        contestant("clip-radam", TWO.after(Sweep::All), || clip(radam())),
        contestant("clip-novograd", ONE.after(Sweep::All), || clip(novograd())),
        contestant("momentum-ema", ONE.average(), || of(momentum()).ema(ema())),
        contestant("adam-ema", TWO.average(), || of(adam()).ema(ema())),
        contestant("nadam-ema", TWO.average(), || of(nadam()).ema(ema())),
        contestant("radam-ema", TWO.average(), || of(radam()).ema(ema())),
        contestant("novograd-ema", NOVOGRAD.average(), || of(novograd()).ema(ema())),
        contestant("lookahead-momentum", ONE.every(K), || of(lookahead(momentum()))),
        contestant("lookahead-adam", TWO.every(K), || of(lookahead(adam()))),
        contestant("lookahead-nadam", TWO.every(K), || of(lookahead(nadam()))),
        contestant("lookahead-radam", TWO.every(K), || of(lookahead(radam()))),
        contestant("lookahead-novograd", NOVOGRAD.every(K), || of(lookahead(novograd()))),
        contestant("clip-lookahead-radam-ema", TWO.average().after(Sweep::All).every(K), || {
            clip(lookahead(radam())).ema(ema())
        }),
        contestant("momentum-groups", ONE, || groups(momentum())),
        contestant("adam-groups", TWO, || groups(adam())),
        contestant("accumulate", PLAIN, || of(Sgd::new(1e-5)).accumulate(Accumulate::sum(ENDLESS))),
        contestant("momentum-bf16", PLAIN.narrow(1), || bf16(momentum())),
        contestant("adam-bf16", PLAIN.narrow(2), || bf16(adam())),
        contestant("nadam-bf16", PLAIN.narrow(2), || bf16(nadam())),
        contestant("radam-bf16", PLAIN.narrow(2), || bf16(radam())),
        contestant("adamw-bf16", PLAIN.narrow(2), || bf16(AdamW::new(1e-5))),
        contestant("novograd-bf16", PLAIN.narrow(1).after(Sweep::ByVariable), || bf16(novograd())),
        contestant("momentum-float8", PLAIN.tiny(1), || float8(momentum())),
        contestant("adam-float8", PLAIN.tiny(2), || float8(adam())),
        contestant("adamw-float8", PLAIN.tiny(2), || float8(AdamW::new(1e-5))),
        contestant("nadam-float8", PLAIN.tiny(2), || float8(nadam())),
        contestant("radam-float8", PLAIN.tiny(2), || float8(radam())),
        contestant("adamw-half", Traffic::halves(3), || of(AdamW::new(1e-5))),
        contestant("adamw-half-24", Traffic::halves(2).correction(), || master24(of(AdamW::new(1e-5)))),
        contestant("adamw-half-float8", Traffic::halves(1).tiny(2), || float8(AdamW::new(1e-5))),
        contestant("adamw-half-24-float8", Traffic::halves(0).correction().tiny(2), || {
            master24(float8(AdamW::new(1e-5)))
        }),
        contestant("adamw-half-alone-float8", Traffic::halves(0).tiny(2), || {
            float8(AdamW::new(1e-5)).master(Master::None { seed: 0 })
        }),
        contestant("novograd-float8", PLAIN.tiny(1).after(Sweep::ByVariable), || float8(novograd())),
    ];
    // Only optimizers in 32 bits can have state or variables in fewer bits.
    let is_wide = |Contestant { traffic, .. }: &Contestant<T>| traffic.narrow + traffic.tiny == 0 && !traffic.halves;
    all.into_iter().filter(|contestant| is_wide(contestant) || size_of::<T>() == 4).collect()
}

/// Boxes the rule, so that all rules fit into one list.
fn of<T: Element>(rule: impl UpdateRule<T> + 'static) -> Builder<T> {
    Optimizer::builder(rule).boxed()
}

/// With a limit that every gradient here exceeds.
fn clip<T: Element>(rule: impl UpdateRule<T> + 'static) -> Builder<T> {
    of(rule).global_clipnorm(0.5)
}

/// In two groups of every other variable.
fn groups<T: Element>(rule: impl UpdateRule<T> + 'static) -> Builder<T> {
    of(rule).group(Group::matching("[02468].weight$").learning_rate_scale(0.5))
}

/// With moments of 16 bits.
fn bf16<T: Element>(rule: impl UpdateRule<T> + 'static) -> Builder<T> {
    of(rule).moments(MomentStorage::Bf16 { seed: 0 })
}

/// With moments of 8 bits.
fn float8<T: Element>(rule: impl UpdateRule<T> + 'static) -> Builder<T> {
    of(rule).moments(MomentStorage::Float8 { seed: 0 })
}

/// With masters of 24 bits.
fn master24<T: Element>(builder: Builder<T>) -> Builder<T> {
    builder.master(Master::Bits24 { seed: 0 })
}

fn ema() -> Ema {
    Ema::new(0.999)
}

fn momentum() -> Sgd {
    Sgd::new(1e-5).momentum(0.9)
}

fn adam() -> Adam {
    Adam::new(1e-5)
}

fn nadam() -> Nadam {
    Nadam::new(1e-5)
}

fn radam() -> RectifiedAdam {
    RectifiedAdam::new(1e-5)
}

fn novograd() -> NovoGrad {
    NovoGrad::new(1e-5)
}

fn lookahead<R>(rule: R) -> Lookahead<R> {
    Lookahead::new(rule).sync_period(LOOKAHEAD_PERIOD as u64).slow_step_size(0.5)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use optimizers::state::StateValue;

    use super::*;
    use crate::model::Model;
    use crate::shapes::Shape;
    use crate::traffic::GROUP;

    #[test]
    fn names_are_unique_and_every_class_takes_part() {
        let all = contestants::<f32>();
        let names: BTreeSet<&str> = all.iter().map(|contestant| contestant.name).collect();
        assert_eq!(names.len(), all.len());
        let class = |contestant: &Contestant<f32>| contestant.build(1).unwrap().rule().class_name().to_owned();
        let classes: BTreeSet<String> = all.iter().map(class).collect();
        assert_eq!(classes, optimizers::registry::<f32>().class_names().map(str::to_owned).collect());
    }

    /// The bytes in a table are those that the optimizer allocates.
    #[test]
    fn traffic_is_that_of_the_slots() {
        let shape = Shape::single(10_000);
        for contestant in contestants::<f32>() {
            let mut optimizer = contestant.build(1).unwrap();
            let Traffic { wide, narrow, tiny, periodic, halves, correction, .. } = contestant.traffic;
            Model::new(&shape).step(&mut optimizer, halves).unwrap();
            let sums = usize::from(optimizer.micro_step() > 0);
            let arrays = wide - usize::from(!halves) + usize::from(periodic.is_some()) + sums;
            let expected = shape.params() * (arrays * size_of::<f32>() + narrow * 2 + tiny)
                + tiny * shape.params().div_ceil(GROUP)
                + usize::from(correction) * shape.params();
            let scalars = optimizer.state_bytes().checked_sub(expected).unwrap();
            assert!(scalars < 100, "{}: {scalars}", contestant.name);
        }
    }

    #[test]
    fn numbers_stay_normal_for_a_thousand_steps() {
        let shape = Shape::many(2, 300);
        for contestant in contestants::<f32>() {
            let (mut model, mut optimizer) = (Model::new(&shape), contestant.build(1).unwrap());
            for _ in 0..1_000 {
                model.step(&mut optimizer, contestant.traffic.halves).unwrap();
            }
            assert!(model.is_finite(), "{}", contestant.name);
            for slot in optimizer.slot_names() {
                let is_normal = match optimizer.slot("layers.1.weight", slot).unwrap() {
                    StateValue::Array(values) => values.iter().all(|value| value.is_normal()),
                    // A correction may be 0.
                    StateValue::Bf16(_) if slot == "correction" => true,
                    StateValue::Bf16(values) => values.iter().all(|value| value.to_f32().is_normal()),
                    _ => true,
                };
                assert!(is_normal, "{}: {slot}", contestant.name);
            }
        }
    }
}
