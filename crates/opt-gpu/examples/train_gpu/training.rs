//! The training loop, on the device and on the CPU.

use opt_gpu::{BuildOn, Error, WgpuDevice};

use crate::contestants::Contestant;
use crate::digits::Digits;
use crate::model::{Evaluation, Mlp};
use crate::network::Network;
use crate::random::Random;

/// The number of images in a step.
const BATCH: usize = 32;

/// The settings that all optimizers share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) epochs: u32,
    pub(crate) seed: u64,
}

impl Plan {
    /// The number of steps of the training.
    fn steps(self, digits: &Digits) -> u64 {
        u64::from(self.epochs) * digits.training.len().div_ceil(BATCH) as u64
    }
}

/// Trains on the device. Returns the loss over the training images and the accuracy over the test images.
pub(crate) fn train_on_device(
    contestant: &Contestant,
    device: &WgpuDevice,
    digits: &Digits,
    plan: Plan,
    after_epoch: impl Fn(),
) -> Result<Evaluation, Error> {
    let mut random = Random::new(plan.seed);
    let network = Network::new(device, digits, &mut random)?;
    let mut optimizer = (contestant.builder)(plan.steps(digits)).build_on(device)?;
    let mut order: Vec<usize> = (0..digits.training.len()).collect();
    for _ in 0..plan.epochs {
        random.shuffle(&mut order);
        for rows in order.chunks(BATCH) {
            network.compute_gradients(rows);
            optimizer.apply_gradients(network.variables_with_gradients())?;
        }
        after_epoch();
    }
    if optimizer.has_averages() {
        optimizer.copy_slot("average", network.variables())?;
    }
    network.evaluate(digits)
}

/// Trains on the CPU.
pub(crate) fn train_on_cpu(
    contestant: &Contestant,
    digits: &Digits,
    plan: Plan,
    after_epoch: impl Fn(),
) -> Result<Evaluation, optimizers::Error> {
    let mut random = Random::new(plan.seed);
    let mut model: Mlp = Mlp::new(&mut random);
    let mut optimizer = (contestant.builder)(plan.steps(digits)).build()?;
    let mut order: Vec<usize> = (0..digits.training.len()).collect();
    for _ in 0..plan.epochs {
        random.shuffle(&mut order);
        for rows in order.chunks(BATCH) {
            let gradients = model.gradients(&digits.training.pick(rows), 1.0);
            optimizer.step(&mut model, &gradients)?;
        }
        after_epoch();
    }
    if optimizer.has_averages() {
        optimizer.copy_slot("average", &mut model)?;
    }
    let Evaluation { loss, .. } = model.evaluate(&digits.training);
    let Evaluation { accuracy, .. } = model.evaluate(&digits.test);
    Ok(Evaluation { loss, accuracy })
}
