//! The optimizers.

use optimizers::schedules::CosineDecay;
use optimizers::{AdamW, Ema, Lookahead, Nadam, Optimizer, OptimizerBuilder, RectifiedAdam, Sgd, UpdateRule};

type Builder = OptimizerBuilder<Box<dyn UpdateRule<f32>>>;

/// A name, and the options of an optimizer for a training with this many steps.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) builder: fn(u64) -> Builder,
}

/// Add a line to add an optimizer. `n` is the number of steps of the training, for schedules.
pub(crate) fn contestants() -> [Contestant; 4] {
    [
        Contestant { name: "sgd-ema", builder: |_| of(Sgd::new(0.1).momentum(0.9)).ema(Ema::new(0.99)) },
        Contestant { name: "nadam-clip", builder: |_| of(Nadam::keras(0.003)).global_clipnorm(1.0) },
        Contestant {
            name: "adamw-cosine",
            builder: |n| of(AdamW::new(CosineDecay::with_warmup(0.0, 0.005, n / 10, n))),
        },
        Contestant { name: "ranger", builder: |_| of(Lookahead::new(RectifiedAdam::new(0.01))) },
    ]
}

/// Boxes the rule, so that all rules fit into one list.
fn of(rule: impl UpdateRule<f32> + 'static) -> Builder {
    Optimizer::builder(rule).boxed()
}
