//! The suite catches a rule that keeps state outside of its slots.

use std::sync::atomic::{AtomicU64, Ordering};

use opt_conformance::laws::{Broken, Subject, restoring_continues, state_cannot_be_forgotten};
use optimizers::UpdateRule;
use optimizers::config::fields;
use optimizers::config::{Config, ConfigError, Configurable, Fields, FromFields, Hyperparameters};
use optimizers::rule::{Kernel, Real, SlotSpec, Step, elementwise};
use optimizers::{Hyper, Scalar};

/// Gradient descent with steps that become shorter, by a counter of its own or by the engine's.
#[derive(Debug)]
struct Tiring {
    learning_rate: Hyper,
    steps: AtomicU64,
    honest: bool,
}

impl Tiring {
    fn new(honest: bool) -> Self {
        Self { learning_rate: 0.5.into(), steps: AtomicU64::new(0), honest }
    }
}

impl Clone for Tiring {
    fn clone(&self) -> Self {
        Self { learning_rate: self.learning_rate.clone(), steps: AtomicU64::new(0), honest: self.honest }
    }
}

fn element<E: Real>(eta: &E, w: E, g: E, []: [E; 0]) -> (E, [E; 0]) {
    (w - *eta * g, [])
}

impl Configurable for Tiring {
    fn class_name(&self) -> &str {
        "Tiring"
    }
    fn config(&self) -> Result<Config, ConfigError> {
        Ok(fields([("learning_rate", self.learning_rate.to_json()?), ("honest", self.honest.into())]))
    }
}

impl Hyperparameters for Tiring {
    fn learning_rate(&self) -> &Hyper {
        &self.learning_rate
    }
    fn learning_rate_mut(&mut self) -> &mut Hyper {
        &mut self.learning_rate
    }
}

impl FromFields for Tiring {
    const CLASS_NAME: &'static str = "Tiring";

    fn from_fields(fields: &mut Fields<'_>) -> Result<Self, ConfigError> {
        let learning_rate = fields.or("learning_rate", 0.5.into())?;
        Ok(Self { learning_rate, ..Self::new(fields.or("honest", false)?) })
    }
}

impl<T: Scalar> UpdateRule<T> for Tiring {
    fn slots(&self) -> Vec<SlotSpec> {
        vec![SlotSpec::shared("steps", 0.0)]
    }
    fn begin_step(&self, step: &Step, shared: &mut [f64]) -> Box<dyn Kernel<T>> {
        let own = self.steps.fetch_add(1, Ordering::Relaxed) as f64;
        let steps = if self.honest { shared[0] } else { own };
        shared[0] += 1.0;
        Box::new(elementwise(T::literal(step.learning_rate / (1.0 + steps)), element))
    }
}

#[test]
fn a_counter_in_a_slot_keeps_the_laws() {
    assert_eq!(state_cannot_be_forgotten(&Subject::new(&Tiring::new(true))), Ok(()));
    assert_eq!(restoring_continues(&Subject::new(&Tiring::new(true))), Ok(()));
}

#[test]
fn a_counter_of_its_own_breaks_them() {
    let is_broken = |found: Result<(), Broken>, law: &str| {
        let Broken { law: broken, how, .. } = found.unwrap_err();
        assert_eq!(broken, law);
        assert!(how.contains("variable \"embedding\" differs"), "{how}");
    };
    is_broken(state_cannot_be_forgotten(&Subject::new(&Tiring::new(false))), "state_cannot_be_forgotten");
    is_broken(restoring_continues(&Subject::new(&Tiring::new(false))), "restoring_continues");
}
