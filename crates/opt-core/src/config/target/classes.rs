//! The classes of other libraries, with their fields.

use serde_json::{Value, json};

use super::super::Config;

/// A class of other libraries: who has it, and its fields.
pub(super) struct Class {
    pub(super) name: &'static str,
    pub(super) module: Module,
    pub(super) fields: &'static [(&'static str, Kind)],
}

/// Where a class lives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Module {
    /// Newer optimizers of Keras 2, and optimizers of Keras 3.
    Keras,
    KerasLegacy,
    KerasSchedules,
    Addons(&'static str),
}

/// The values that a field takes in other libraries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// A number in floating point, or `null`. (Keras 3 refuses a learning rate of `1`.)
    Number,
    /// A number that is not replaced by the default because it is 0.
    Epsilon,
    /// A number or a schedule.
    Rate,
    /// A number of steps, or a list of such numbers.
    Steps,
    /// A whole number.
    Whole,
    /// Anything; a flag or a choice.
    Other,
    /// A serialised optimizer.
    Optimizer,
}

pub(super) const OPTIMIZERS: [Class; 10] = {
    use Kind::{Epsilon, Number, Optimizer, Other, Rate, Whole};
    const ADAM: &[(&str, Kind)] =
        &[("learning_rate", Rate), ("beta_1", Number), ("beta_2", Number), ("epsilon", Number), ("amsgrad", Other)];
    [
        Class {
            name: "SGD",
            module: Module::Keras,
            fields: &[("learning_rate", Rate), ("momentum", Number), ("nesterov", Other)],
        },
        Class {
            name: "SGD",
            module: Module::KerasLegacy,
            fields: &[("learning_rate", Rate), ("decay", Number), ("momentum", Number), ("nesterov", Other)],
        },
        Class {
            name: "Nadam",
            module: Module::Keras,
            fields: &[("learning_rate", Rate), ("beta_1", Number), ("beta_2", Number), ("epsilon", Number)],
        },
        Class {
            name: "Nadam",
            module: Module::KerasLegacy,
            fields: &[
                ("learning_rate", Number),
                ("decay", Number),
                ("beta_1", Number),
                ("beta_2", Number),
                ("epsilon", Epsilon),
            ],
        },
        Class { name: "Adam", module: Module::Keras, fields: ADAM },
        Class {
            name: "Adam",
            module: Module::KerasLegacy,
            fields: &[
                ("learning_rate", Rate),
                ("decay", Number),
                ("beta_1", Number),
                ("beta_2", Number),
                ("epsilon", Epsilon),
                ("amsgrad", Other),
            ],
        },
        Class { name: "AdamW", module: Module::Keras, fields: ADAM },
        Class {
            name: "RectifiedAdam",
            module: Module::Addons("rectified_adam"),
            fields: &[
                ("learning_rate", Rate),
                ("beta_1", Number),
                ("beta_2", Number),
                ("decay", Number),
                ("weight_decay", Rate),
                ("sma_threshold", Number),
                ("epsilon", Epsilon),
                ("amsgrad", Other),
                ("total_steps", Whole),
                ("warmup_proportion", Number),
                ("min_lr", Number),
            ],
        },
        Class {
            name: "NovoGrad",
            module: Module::Addons("novograd"),
            fields: &[
                ("learning_rate", Rate),
                ("decay", Number),
                ("beta_1", Number),
                ("beta_2", Number),
                ("epsilon", Epsilon),
                ("weight_decay", Number),
                ("grad_averaging", Other),
                ("amsgrad", Other),
            ],
        },
        Class {
            name: "Lookahead",
            module: Module::Addons("lookahead"),
            fields: &[("optimizer", Optimizer), ("sync_period", Whole), ("slow_step_size", Number)],
        },
    ]
};

pub(super) const SCHEDULES: [Class; 9] = {
    use Kind::{Number, Other, Steps};
    const CYCLICAL: Module = Module::Addons("cyclical_learning_rate");
    const WAVE: &[(&str, Kind)] = &[
        ("initial_learning_rate", Number),
        ("maximal_learning_rate", Number),
        ("step_size", Number),
        ("scale_mode", Other),
        ("gamma", Number),
    ];
    const DECAY: &[(&str, Kind)] =
        &[("initial_learning_rate", Number), ("decay_steps", Steps), ("decay_rate", Number), ("staircase", Other)];
    [
        Class { name: "ExponentialDecay", module: Module::KerasSchedules, fields: DECAY },
        Class { name: "InverseTimeDecay", module: Module::KerasSchedules, fields: DECAY },
        Class {
            name: "PiecewiseConstantDecay",
            module: Module::KerasSchedules,
            fields: &[("boundaries", Steps), ("values", Number)],
        },
        Class {
            name: "PolynomialDecay",
            module: Module::KerasSchedules,
            fields: &[
                ("initial_learning_rate", Number),
                ("decay_steps", Steps),
                ("end_learning_rate", Number),
                ("power", Number),
                ("cycle", Other),
            ],
        },
        Class {
            name: "CosineDecay",
            module: Module::KerasSchedules,
            fields: &[
                ("initial_learning_rate", Number),
                ("decay_steps", Steps),
                ("alpha", Number),
                ("warmup_target", Number),
                ("warmup_steps", Steps),
            ],
        },
        Class {
            name: "CosineDecayRestarts",
            module: Module::KerasSchedules,
            fields: &[
                ("initial_learning_rate", Number),
                ("first_decay_steps", Steps),
                ("t_mul", Number),
                ("m_mul", Number),
                ("alpha", Number),
            ],
        },
        Class { name: "TriangularCyclicalLearningRate", module: CYCLICAL, fields: WAVE },
        Class { name: "Triangular2CyclicalLearningRate", module: CYCLICAL, fields: WAVE },
        Class { name: "ExponentialCyclicalLearningRate", module: CYCLICAL, fields: WAVE },
    ]
};

impl Class {
    pub(super) fn kind(&self, key: &str) -> Option<Kind> {
        self.fields.iter().find(|(name, _)| *name == key).map(|(_, kind)| *kind)
    }

    /// Serialises an object. A class of Addons has its prefix both where newer versions of Keras look for it and where
    /// older ones do.
    pub(super) fn wrap(&self, config: &Config) -> Value {
        let serialised = |module: &str| json!({"module": module, "class_name": self.name, "config": config, "registered_name": null});
        match self.module {
            Module::Keras => serialised("keras.optimizers"),
            Module::KerasLegacy => serialised("keras.optimizers.legacy"),
            Module::KerasSchedules => serialised("keras.optimizers.schedules"),
            Module::Addons(file) => {
                let name = format!("Addons>{}", self.name);
                let module = format!("tensorflow_addons.optimizers.{file}");
                json!({"module": module, "class_name": name, "config": config, "registered_name": name})
            }
        }
    }
}
