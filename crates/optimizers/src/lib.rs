#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "adam")]
#[doc(inline)]
pub use opt_adam as adam;
#[cfg(feature = "checkpoint")]
#[doc(inline)]
pub use opt_checkpoint as checkpoint;
pub use opt_core;
#[cfg(feature = "derive")]
#[doc(inline)]
pub use opt_derive::{Gradients, Parameters};
#[cfg(any(feature = "cuda", feature = "wgpu"))]
#[doc(inline)]
pub use opt_gpu as gpu;
#[cfg(feature = "lookahead")]
#[doc(inline)]
pub use opt_lookahead as lookahead;
#[cfg(feature = "mesh")]
#[doc(inline)]
pub use opt_mesh as mesh;
#[cfg(feature = "nadam")]
#[doc(inline)]
pub use opt_nadam as nadam;
#[cfg(feature = "novograd")]
#[doc(inline)]
pub use opt_novograd as novograd;
#[cfg(feature = "radam")]
#[doc(inline)]
pub use opt_radam as radam;
#[cfg(feature = "schedules")]
#[doc(inline)]
pub use opt_schedules as schedules;
#[cfg(feature = "sgd")]
#[doc(inline)]
pub use opt_sgd as sgd;

#[cfg(feature = "adam")]
#[doc(inline)]
pub use opt_adam::{Adam, AdamW};
#[doc(inline)]
pub use opt_core::{
    Accumulate, Description, DynOptimizer, Ema, Error, Exclude, Gradient, Gradients, Group, GroupInfo, Hyper,
    IndexedSlices, Indices, LossScale, Master, Minimized, MomentStorage, NonFinite, NonFiniteGradient, Optimizer,
    OptimizerBuilder, Outcome, Parameters, PendingStep, Registry, Scalar, Schedule, Scheduled, SliceStep, SlotGuard,
    StepOptions, StepReport, UpdateRule, Variable, View, ViewMut, collective, config, hyperparameters, model, rule,
    state, trace,
};
#[cfg(feature = "lookahead")]
#[doc(inline)]
pub use opt_lookahead::Lookahead;
#[cfg(feature = "nadam")]
#[doc(inline)]
pub use opt_nadam::Nadam;
#[cfg(feature = "novograd")]
#[doc(inline)]
pub use opt_novograd::NovoGrad;
#[cfg(feature = "radam")]
#[doc(inline)]
pub use opt_radam::RectifiedAdam;
#[cfg(feature = "sgd")]
#[doc(inline)]
pub use opt_sgd::Sgd;

/// Every rule and schedule of the enabled features, by class name.
///
/// Add your own with [`Registry::register`] and [`Registry::register_schedule`]: what Keras calls `custom_objects`.
///
/// # Examples
///
/// ```
/// use optimizers::{Optimizer, Variable};
/// use serde_json::json;
///
/// // What tf.keras.optimizers.serialize(tf.keras.optimizers.SGD(0.5)) returns, shortened.
/// let config = json!({"class_name": "SGD", "config": {"learning_rate": 0.5, "momentum": 0.0, "nesterov": false}});
/// let mut opt = Optimizer::from_config(&config, &optimizers::registry())?;
///
/// let mut w = [1.0_f32];
/// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
/// assert_eq!(w, [0.5]);
/// assert_eq!(opt.to_config()?, config);
/// # Ok::<(), optimizers::Error>(())
/// ```
#[must_use]
pub fn registry<T: opt_core::Scalar>() -> Registry<T> {
    #[cfg_attr(
        not(any(
            feature = "adam",
            feature = "lookahead",
            feature = "nadam",
            feature = "novograd",
            feature = "radam",
            feature = "schedules",
            feature = "sgd"
        )),
        expect(unused_mut, reason = "without features there is nothing to register")
    )]
    let mut registry = Registry::new();
    #[cfg(feature = "schedules")]
    opt_schedules::register(registry.schedules_mut());
    #[cfg(feature = "adam")]
    {
        registry.register::<Adam>();
        registry.register::<AdamW>();
    }
    #[cfg(feature = "lookahead")]
    opt_lookahead::register(&mut registry);
    #[cfg(feature = "nadam")]
    registry.register::<Nadam>();
    #[cfg(feature = "novograd")]
    registry.register::<NovoGrad>();
    #[cfg(feature = "radam")]
    registry.register::<RectifiedAdam>();
    #[cfg(feature = "sgd")]
    registry.register::<Sgd>();
    registry
}

/// The examples of the document on several ranks run, too.
#[cfg(all(doctest, feature = "checkpoint", feature = "mesh", feature = "sgd"))]
#[doc = include_str!("../../../docs/distributed.md")]
struct SeveralRanks;

/// The examples of the guide to groups, accumulation and mixed precision run, too.
#[cfg(all(doctest, feature = "adam", feature = "schedules", feature = "sgd"))]
#[doc = include_str!("../../../docs/groups.md")]
struct Groups;

/// The example of the guide to devices is compiled, too.
#[cfg(all(doctest, feature = "nadam", feature = "wgpu"))]
#[doc = include_str!("../../../docs/gpu.md")]
struct OnDevices;

/// The examples of the document on equations run, too.
#[cfg(all(doctest, feature = "radam", feature = "sgd"))]
#[doc = include_str!("../../../docs/equations.md")]
struct Equations;
