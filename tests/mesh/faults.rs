//! Faults: each ends in an error on every remaining rank, within the time limit, and changes nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use half::bf16;
use ndarray::{Array1, Array2, ArrayD, IxDyn, array};
use optimizers::collective::{Collective, CollectiveError, Distribution, Numbers, Part, Pending, Placement, Replicas};
use optimizers::mesh::{Distributed, DistributedBuilder, Layout, Mesh, MeshError};
use optimizers::schedules::{StartingAt, schedule_fn};
use optimizers::state::StateValue;
use optimizers::{
    Accumulate, DynOptimizer, Ema, Error, Group, Nadam, NonFinite, Optimizer, OptimizerBuilder, Outcome, Sgd,
    UpdateRule, Variable,
};

use super::problem::whole;

type Builder = OptimizerBuilder<Box<dyn UpdateRule<f64>>, f64>;

/// The time that ranks wait for each other; they wait as long as this only if a rank is late.
const LIMIT: Duration = Duration::from_secs(10);

fn plain() -> Builder {
    Optimizer::builder(Sgd::new(0.1).momentum(0.9)).boxed()
}

fn reduced(mesh: &Mesh) -> Distributed {
    Distributed::new(mesh).mean_gradients_over(["x"]).build().unwrap()
}

/// Two variables, and what one rank of a run does differently.
struct Model {
    names: Vec<String>,
    values: Vec<ArrayD<f64>>,
    gradients: Vec<Option<ArrayD<f64>>>,
}

impl Model {
    fn new() -> Self {
        let shapes: [&[usize]; 2] = [&[4, 3], &[5]];
        let arrays = |key: u64| (0..).zip(shapes).map(move |(i, shape)| whole(shape, &[i, key]));
        Self {
            names: vec!["kernel".to_owned(), "bias".to_owned()],
            values: arrays(1).collect(),
            gradients: arrays(2).map(Some).collect(),
        }
    }

    fn step(&mut self, opt: &mut DynOptimizer<f64>) -> Result<(), Error> {
        let Self { names, values, gradients } = self;
        let variables = names.iter().zip(values).zip(gradients);
        let variables = variables.map(|((name, value), gradient)| {
            Variable::new(name.as_str(), value).optional_gradient(gradient.as_ref().map(Into::into))
        });
        opt.apply_gradients(variables).map(drop)
    }
}

/// Makes one good step. Then changes rank 2 of 4: the next step must fail on all ranks without a trace. Returns the
/// errors of the ranks.
fn refused(
    build: impl Fn(usize) -> Builder + Sync,
    change: impl Fn(&mut Model, &mut DynOptimizer<f64>) + Sync,
) -> Vec<Error> {
    let ends = Mesh::threads_within(LIMIT, &[("x", 4)], |mesh| {
        let mut opt = build(mesh.rank()).distributed(reduced(mesh)).build().unwrap();
        let mut model = Model::new();
        model.step(&mut opt).unwrap();
        if mesh.rank() == 2 {
            change(&mut model, &mut opt);
        }
        let before = (model.values.clone(), opt.weights());
        let error = model.step(&mut opt).unwrap_err();
        assert_eq!((&model.values, opt.weights()), (&before.0, before.1), "rank {}", mesh.rank());
        error
    });
    ends.unwrap()
}

/// As [`refused`], where all ranks must get the same error.
fn disagreement(
    build: impl Fn(usize) -> Builder + Sync,
    change: impl Fn(&mut Model, &mut DynOptimizer<f64>) + Sync,
) -> String {
    let errors = refused(build, change);
    assert!(matches!(errors[0], Error::Collective(CollectiveError::Disagreement { rank: 2, .. })), "{errors:?}");
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    errors[0].to_string()
}

#[test]
fn different_variable_lists() {
    let one_more = disagreement(
        |_| plain(),
        |model, _| {
            model.names.push("extra".to_owned());
            model.values.push(array![1.0].into_dyn());
            model.gradients.push(None);
        },
    );
    let want = "ranks disagree about the variables: rank 0 has nothing, rank 2 has \"extra\" [1] (replicated; mean over x) \
                with no gradient";
    assert_eq!(one_more, want);
    let one_less = disagreement(
        |_| plain(),
        |model, _| {
            model.names.pop();
            model.values.pop();
            model.gradients.pop();
        },
    );
    assert!(one_less.contains("rank 0 has \"bias\" [5]") && one_less.ends_with("rank 2 has nothing"), "{one_less}");
    let renamed = disagreement(|_| plain(), |model, _| model.names[1] = "biases".to_owned());
    assert!(renamed.contains("\"bias\"") && renamed.contains("\"biases\""), "{renamed}");
    let frozen = disagreement(|_| plain(), |model, _| model.gradients[0] = None);
    assert!(frozen.contains("with a dense gradient") && frozen.contains("with no gradient"), "{frozen}");
}

/// New variables have no records that could refuse their shapes.
#[test]
fn different_shapes() {
    let message = Mesh::threads_within(LIMIT, &[("x", 3)], |mesh| {
        let mut opt = plain().distributed(reduced(mesh)).build().unwrap();
        let len = if mesh.rank() == 1 { 4 } else { 3 };
        let (mut w, g) = (Array1::<f64>::ones(len), Array1::ones(len));
        let error = opt.apply_gradients([Variable::new("w", &mut w).gradient(&g)]).unwrap_err();
        assert_eq!((w.sum(), opt.iterations(), opt.variables().count()), (len as f64, 0, 0));
        error.to_string()
    });
    for message in message.unwrap() {
        assert!(message.contains("rank 0 has \"w\" [3]") && message.contains("rank 1 has \"w\" [4]"), "{message}");
    }
}

#[test]
fn different_step_counts() {
    let message = disagreement(
        |_| plain(),
        |_, opt| {
            let mut weights: Vec<StateValue<'static, f64>> = opt.weights().into_iter().map(StateValue::from).collect();
            weights[0] = StateValue::Iterations(7);
            opt.set_weights(weights).unwrap();
        },
    );
    assert_eq!(message, "ranks disagree about the step: rank 0 has iterations 1, rank 2 has iterations 7");
}

#[test]
fn different_options_and_rates() {
    let other = |rank: usize, builder: fn(Builder) -> Builder| if rank == 2 { builder(plain()) } else { plain() };
    let options: [fn(Builder) -> Builder; 5] = [
        |_| Optimizer::builder(Sgd::new(0.1).momentum(0.8)).boxed(),
        |builder| builder.global_clipnorm(1.0),
        |builder| builder.weight_decay(0.1),
        |builder| builder.ema(Ema::new(0.9)),
        |builder| builder.non_finite(NonFinite::SkipStep),
    ];
    for option in options {
        // The first step fails already.
        let errors = Mesh::threads_within(LIMIT, &[("x", 4)], |mesh| {
            let mut opt = other(mesh.rank(), option).distributed(reduced(mesh)).build().unwrap();
            let mut model = Model::new();
            let error = model.step(&mut opt).unwrap_err();
            assert_eq!((model.values, opt.iterations()), (Model::new().values, 0));
            error.to_string()
        });
        for message in errors.unwrap() {
            assert!(message.starts_with("ranks disagree about the configuration: rank 0 has {"), "{message}");
        }
    }
    let rate = disagreement(|_| plain(), |_, opt| opt.set_learning_rate(0.2).unwrap());
    assert!(rate.contains("the configuration"), "{rate}");
}

/// Code cannot be compared, but its values can.
#[test]
fn different_schedules_of_code() {
    let ends = Mesh::threads_within(LIMIT, &[("x", 4)], |mesh| {
        let base = if mesh.rank() == 3 { 0.5 } else { 0.1 };
        let rule = Sgd::new(schedule_fn(move |step| if step == 0 { 0.1 } else { base }));
        let mut opt = Optimizer::builder(rule).boxed().distributed(reduced(mesh)).build().unwrap();
        let mut model = Model::new();
        model.step(&mut opt).unwrap();
        model.step(&mut opt).unwrap_err().to_string()
    });
    let told = "ranks disagree about the learning rates: rank 0 has 1e-1, rank 3 has 5e-1";
    assert_eq!(ends.unwrap(), [told; 4]);
}

#[test]
fn different_shared_state() {
    let message = disagreement(
        |_| Optimizer::builder(Nadam::new(0.1)).boxed(),
        |_, opt| {
            let weights = opt.weights().into_iter().map(|weight| match weight.value {
                StateValue::Scalar(_) => StateValue::Scalar(0.5),
                value => value,
            });
            opt.set_weights(weights.collect::<Vec<_>>()).unwrap();
        },
    );
    assert!(message.starts_with("ranks disagree about the shared state"), "{message}");
}

#[test]
fn different_element_types() {
    fn end<T: optimizers::Scalar>(mesh: &Mesh) -> String {
        let mut opt = Optimizer::builder(Sgd::new(0.1)).distributed(reduced(mesh)).build().unwrap();
        let (mut w, g) = (whole::<T>(&[3], &[1]), whole(&[3], &[2]));
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&g)]).unwrap_err().to_string()
    }
    let ends =
        Mesh::threads_within(
            LIMIT,
            &[("x", 2)],
            |mesh| {
                if mesh.rank() == 0 { end::<f32>(mesh) } else { end::<f64>(mesh) }
            },
        );
    for message in ends.unwrap() {
        assert!(message.contains(", F32,") && message.contains(", F64,"), "{message}");
    }
}

/// The rank with the error gets its own error; the other ranks get its text.
#[test]
fn an_error_of_one_rank_is_an_error_of_all() {
    let errors = refused(|_| plain(), |model, _| model.gradients[1] = Some(array![1.0].into_dyn()));
    let own = "variable \"bias\": gradient has shape [1], variable has [5]";
    for (rank, error) in errors.iter().enumerate() {
        match error {
            Error::GradientShape { .. } if rank == 2 => assert_eq!(error.to_string(), own),
            Error::Collective(CollectiveError::Refused { rank: 2, reason }) if rank != 2 => assert_eq!(reason, own),
            other => panic!("rank {rank}: {other:?}"),
        }
    }
    let nothing = refused(|_| plain(), |model, _| model.gradients = vec![None, None]);
    assert!(matches!(nothing[2], Error::NoGradients { variables: 2 }));
}

#[test]
fn a_local_array_that_is_no_shard() {
    let ends = Mesh::threads_within(LIMIT, &[("x", 2), ("y", 2)], |mesh| {
        let layout = Layout::new([Some("y"), None]);
        let builder = Distributed::new(mesh).layout("w", &[5, 2], layout);
        let distributed = builder.same_gradients_over(["x", "y"]).build().unwrap();
        let mut opt = plain().distributed(distributed).build().unwrap();
        // Rows 0..3 and 3..5, but rank 3 has all of them.
        let rows = [3, 2, 3, 5][mesh.rank()];
        let (mut w, g) = (whole::<f64>(&[rows, 2], &[1]), whole(&[rows, 2], &[1]));
        let error = opt.apply_gradients([Variable::new("w", &mut w).gradient(&g)]).unwrap_err();
        assert_eq!((w, opt.iterations()), (g, 0));
        error.to_string()
    });
    let own = "variable \"w\": rank 3 holds shape [5, 2], its shard has [2, 2]";
    let told = format!("rank 3 refuses: {own}");
    assert_eq!(ends.unwrap(), [told.as_str(), told.as_str(), told.as_str(), own]);
}

/// No rank is started.
#[test]
fn ranks_must_be_countable() {
    for size in [0, usize::MAX] {
        let error = Mesh::threads(&[("x", size), ("y", 2)], |_| ()).unwrap_err();
        assert_eq!(error, MeshError::Sizes { sizes: vec![size, 2], ranks: 0 });
    }
}

#[test]
fn layouts_that_do_not_fit_the_mesh() {
    let ends = Mesh::threads(&[("x", 2), ("y", 1)], |mesh| {
        let build = |layout| Distributed::new(mesh).layout("w", &[4, 4], layout).build().unwrap_err().to_string();
        let twice =
            Distributed::new(mesh).layout("w", &[4], Layout::new([Some("x")])).layout("w", &[4], Layout::default());
        let both = Distributed::new(mesh).sum_gradients_over(["x"]).same_gradients_over(["y", "x"]);
        let errors = [
            build(Layout::new([Some("z"), None])),
            build(Layout::new([Some("x"), Some("x")])),
            build(Layout::new([Some("x")])),
            twice.build().unwrap_err().to_string(),
            Distributed::new(mesh).shard_state_over("w").build().unwrap_err().to_string(),
            Distributed::new(mesh).sum_gradients_over(["x", "x"]).build().unwrap_err().to_string(),
            Distributed::new(mesh).same_gradients_over(["z"]).build().unwrap_err().to_string(),
            both.build().unwrap_err().to_string(),
        ];
        // A mistake on one rank is enough.
        let one = if mesh.rank() == 1 { Layout::new([Some("z"), None]) } else { Layout::replicated() };
        (errors, build(one))
    });
    let ends = ends.unwrap();
    let unknown = "the mesh has no dimension \"z\", there are [\"x\", \"y\"]";
    for (errors, _) in &ends {
        let want = [
            unknown,
            "mesh dimension \"x\" is used twice",
            "a layout of 1 axes for an array of shape [4, 4]",
            "variable \"w\" has two layouts",
            "the mesh has no dimension \"w\", there are [\"x\", \"y\"]",
            "mesh dimension \"x\" is used twice",
            unknown,
            "mesh dimension \"x\" is used twice",
        ];
        assert_eq!(*errors, want);
    }
    assert_eq!(ends[1].1, unknown);
    assert!(ends[0].1.starts_with("ranks disagree about the distribution") && ends[0].1.ends_with(unknown), "{ends:?}");
}

/// Replicas that nothing is said about would drift apart.
#[test]
fn what_happens_to_gradients_of_replicas_must_be_said() {
    let ends = Mesh::threads_within(LIMIT, &[("x", 2), ("y", 2), ("one", 1)], |mesh| {
        let step = |builder: DistributedBuilder| {
            let mut opt = plain().distributed(builder.build().unwrap()).build().unwrap();
            let (mut w, g) = (array![1.0, 2.0], array![mesh.coordinates()[0] as f64, 0.0]);
            let result = opt.apply_gradients([Variable::new("w", &mut w).gradient(&g)]);
            result.map(|_| w[0]).map_err(|error| {
                assert_eq!((w, opt.iterations()), (array![1.0, 2.0], 0));
                error.to_string()
            })
        };
        let new = || Distributed::new(mesh);
        let rows = || new().layout("w", &[4], Layout::new([Some("y")]));
        [
            step(new()),
            step(new().mean_gradients_over(["x"])),
            step(rows()),
            step(rows().mean_gradients_over(["x"])),
            step(new().mean_gradients_over(["x"]).same_gradients_over(["y"])),
        ]
    });
    let unsaid = |dimension: &str| {
        format!(
            "variable \"w\" is replicated along mesh dimension \"{dimension}\": say sum_gradients_over, \
             mean_gradients_over or, if the gradients are reduced already, same_gradients_over"
        )
    };
    for end in ends.unwrap() {
        for (result, dimension) in end[..3].iter().zip(["x", "y", "x"]) {
            let error = result.as_ref().unwrap_err();
            assert!(error.contains(&unsaid(dimension)), "{error}");
        }
        // The mean of 0 and 1, times 0.1.
        assert_eq!(end[3..], [Ok(0.95), Ok(0.95)]);
    }
}

#[test]
fn meshes_that_do_not_fit_their_ranks() {
    let sizes = |dimensions: &[(&str, usize)]| Mesh::threads(dimensions, |_| ()).unwrap_err();
    assert_eq!(sizes(&[("x", 2), ("y", 0)]).to_string(), "a mesh of [2, 0] does not cover 0 ranks");
    assert_eq!(sizes(&[("x", 2), ("x", 2)]), MeshError::DuplicateDimension { dimension: "x".to_owned() });
}

#[test]
fn a_rank_that_panics_in_the_middle() {
    for at in 0..4 {
        let survivors = Mutex::new(Vec::new());
        let error = Mesh::threads_within(LIMIT, &[("x", 3)], |mesh| {
            let mut opt = plain().global_clipnorm(1.0).distributed(reduced(mesh)).build().unwrap();
            let mut model = Model::new();
            for step in 0..4 {
                assert!(step != at || mesh.rank() != 1, "out of luck in step {step}");
                let before = (model.values.clone(), opt.weights());
                match model.step(&mut opt) {
                    Ok(()) => assert!(step < at),
                    Err(error) => {
                        assert_eq!(((model.values.clone(), opt.weights()), step), (before, at));
                        survivors.lock().unwrap().push((mesh.rank(), error.to_string()));
                        return;
                    }
                }
            }
        });
        let message = format!("out of luck in step {at}");
        assert_eq!(error, Err(MeshError::RankPanicked { rank: 1, message: message.clone() }));
        let mut survivors = survivors.into_inner().unwrap();
        survivors.sort();
        let told = format!("rank 1 is lost: panicked: {message}");
        assert_eq!(survivors, [(0, told.clone()), (2, told)]);
    }
}

#[test]
fn a_rank_that_ends_early() {
    let ends = Mesh::threads_within(LIMIT, &[("x", 3)], |mesh| {
        let mut opt = plain().distributed(reduced(mesh)).build().unwrap();
        let mut model = Model::new();
        model.step(&mut opt).unwrap();
        if mesh.rank() == 0 { None } else { Some(model.step(&mut opt).unwrap_err().to_string()) }
    });
    let told = Some("rank 0 is lost: has ended".to_owned());
    assert_eq!(ends.unwrap(), [None, told.clone(), told]);
}

/// A late rank is an error, also for itself; the next step can succeed.
#[test]
fn a_rank_that_is_late() {
    let limit = Duration::from_secs(1);
    let barrier = Barrier::new(3);
    let ends = Mesh::threads_within(limit, &[("x", 3)], |mesh| {
        let mut opt = plain().distributed(reduced(mesh)).build().unwrap();
        let mut model = Model::new();
        if mesh.rank() == 2 {
            // By now, the other ranks have given up.
            barrier.wait();
        }
        let error = model.step(&mut opt).unwrap_err();
        assert_eq!((&model.values, opt.iterations()), (&Model::new().values, 0));
        if mesh.rank() != 2 {
            barrier.wait();
        }
        barrier.wait();
        model.step(&mut opt).unwrap();
        (error, model.values)
    });
    let ends = ends.unwrap();
    let late = CollectiveError::Timeout { call: "gather", missing: vec![2], limit };
    assert!(ends.iter().all(|(error, values)| *error == late.clone().into() && *values == ends[0].1), "{ends:?}");
}

/// Ranks that make different calls get an error that says so.
#[test]
fn ranks_that_make_different_calls() {
    let ends = Mesh::threads_within(LIMIT, &[("x", 3)], |mesh| match mesh.rank() {
        0 => mesh.world().gather(vec![1]).map(drop),
        1 => mesh.world().sum(Numbers::F32(vec![1.0, 2.0])).map(drop),
        _ => mesh.world().broadcast(7, vec![]).map(drop),
    });
    for end in ends.unwrap() {
        let told = "ranks disagree about the call: rank 0 has a gather, rank 1 has the sum of 2 numbers of 32 bits";
        assert_eq!(end.unwrap_err().to_string(), told);
    }
    let root = Mesh::threads_within(LIMIT, &[("x", 2)], |mesh| mesh.world().broadcast(7, vec![]).unwrap_err());
    assert_eq!(root.unwrap(), vec![CollectiveError::NoRank { rank: 7, ranks: 2 }; 2]);
}

/// All ranks decide the same, and name the place in the whole variable.
#[test]
fn gradients_that_are_not_finite_on_one_rank() {
    for policy in [NonFinite::SkipStep, NonFinite::Error] {
        let ends = Mesh::threads_within(LIMIT, &[("x", 2), ("y", 2)], |mesh| {
            let layout = Layout::new([Some("x"), Some("y")]);
            let builder = Distributed::new(mesh).layout("w", &[4, 6], layout);
            let distributed = builder.same_gradients_over(["x", "y"]).build().unwrap();
            let mut opt = plain().non_finite(policy).distributed(distributed).build().unwrap();
            let (mut w, mut g) = (whole::<f64>(&[2, 3], &[1]), whole::<f64>(&[2, 3], &[2]));
            if mesh.rank() == 2 {
                g[IxDyn(&[1, 2])] = f64::NEG_INFINITY;
            }
            let result = opt.apply_gradients([Variable::new("w", &mut w).gradient(&g)]);
            assert_eq!((w, opt.iterations()), (whole(&[2, 3], &[1]), 0));
            result
        });
        for end in ends.unwrap() {
            let (variable, index, value) = match (policy, end) {
                (NonFinite::Error, Err(Error::NonFiniteGradient { variable, index, value })) => {
                    (variable, index, value)
                }
                (_, Ok(report)) => {
                    assert!(!report.is_applied());
                    let found = report.non_finite.unwrap();
                    (found.variable, found.index, found.value)
                }
                (_, Err(error)) => panic!("{error}"),
            };
            assert_eq!((variable.as_str(), index, value), ("w", vec![3, 2], f64::NEG_INFINITY));
        }
    }
}

/// In a micro-step, ranks look at their own gradients: also at those of variables of which they update no part.
#[test]
fn micro_gradients_that_are_not_finite_on_one_rank() {
    let ends = Mesh::threads_within(LIMIT, &[("x", 2)], |mesh| {
        let distributed = Distributed::new(mesh).mean_gradients_over(["x"]).shard_state_over("x").build().unwrap();
        let builder = plain().accumulate(Accumulate::mean(4)).non_finite(NonFinite::SkipStep);
        let mut opt = builder.distributed(distributed).build().unwrap();
        let mut values = (array![[1.0], [2.0], [3.0]], [1.0]);
        let mut step = |w: f64, b: f64| {
            let gradients = (array![[0.5], [0.5], [w]], [b]);
            let variables = [
                Variable::new("w", &mut values.0).gradient(&gradients.0),
                Variable::new("b", &mut values.1).gradient(&gradients.1),
            ];
            opt.apply_gradients(variables).unwrap()
        };
        step(0.5, 0.5);
        let bad = |rank: usize| if mesh.rank() == rank { f64::NAN } else { 0.5 };
        let found = [step(0.5, bad(1)), step(bad(0), 0.5)].map(|report| {
            assert_eq!(report.outcome, Outcome::NonFinite);
            report.non_finite.map(|found| (found.variable, found.index)).unwrap()
        });
        let outcome = step(0.5, 0.5).outcome;
        assert_eq!(outcome, Outcome::Accumulated { micro_step: 2, of: 4 });
        found
    });
    for found in ends.unwrap() {
        assert_eq!(found, [("b".to_owned(), vec![0]), ("w".to_owned(), vec![2, 0])]);
    }
}

/// Ranks compare what has a text, also where a group is chosen by code.
#[test]
fn groups_of_code_with_other_options() {
    let chosen = |group: Group<f64>| plain().group(group.average(false)).ema(Ema::new(0.5));
    let group = || Group::choosing("vectors", |_, shape| shape.len() == 1);
    let error = disagreement_of(|rank| match rank {
        2 => chosen(group().clipnorm(1.0)),
        _ => chosen(group()),
    });
    assert!(error.starts_with("ranks disagree about the configuration: "), "{error}");
    let error = disagreement_of(|rank| chosen(group().weight_decay(if rank == 2 { 0.5 } else { 0.25 })));
    assert!(error.starts_with("ranks disagree about the learning rates: "), "{error}");
}

/// The error of the first step, if rank 2 was built otherwise.
fn disagreement_of(build: impl Fn(usize) -> Builder + Sync) -> String {
    let ends = Mesh::threads_within(LIMIT, &[("x", 4)], |mesh| {
        let mut opt = build(mesh.rank()).distributed(reduced(mesh)).build().unwrap();
        Model::new().step(&mut opt).unwrap_err()
    });
    let errors = ends.unwrap();
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    errors[0].to_string()
}

/// Ranks exchange neither variables nor gradients in 16 bits.
#[test]
fn numbers_in_16_bits_are_refused() {
    let ends = Mesh::threads(&[("x", 2)], |mesh| {
        let mut opt = Optimizer::builder(Sgd::new(0.1)).distributed(reduced(mesh)).build().unwrap();
        let (mut narrow, mut wide) = ([bf16::ONE; 2], [1.0_f32; 2]);
        let variable = opt.apply_gradients([Variable::half("narrow", &mut narrow).gradient(&[1.0; 2])]).unwrap_err();
        let gradient = [bf16::ONE; 2];
        let gradient = opt.apply_gradients([Variable::new("wide", &mut wide).half_gradient(&gradient)]).unwrap_err();
        assert_eq!((narrow, wide, opt.iterations()), ([bf16::ONE; 2], [1.0; 2], 0));
        [variable, gradient]
    });
    let refused = |name: &str| Error::Collective(CollectiveError::HalfPrecision { variable: name.to_owned() });
    for [variable, gradient] in ends.unwrap() {
        assert_eq!([variable, gradient], [refused("narrow"), refused("wide")]);
    }
}

/// With sharded state, ranks check only their own parts, and count from the start of the variable.
#[test]
fn non_finite_elements_have_their_place_in_the_whole() {
    let found = Mesh::threads(&[("x", 2)], |mesh| {
        let distributed = Distributed::new(mesh).same_gradients_over(["x"]).shard_state_over("x").build().unwrap();
        let mut opt = plain().non_finite(NonFinite::SkipStep).distributed(distributed).build().unwrap();
        let (mut w, mut g) = (Array2::zeros((2, 4)), Array2::ones((2, 4)));
        g[[1, 3]] = f64::INFINITY;
        let report = opt.apply_gradients([Variable::new("w", &mut w).gradient(&g)]).unwrap();
        report.non_finite.unwrap().index
    });
    assert_eq!(found.unwrap(), [[1, 3], [1, 3]]);
}

/// Norms whose squares are too large for 64 bits, over shards.
#[test]
fn huge_norms_over_shards() {
    let ends = Mesh::threads(&[("x", 2)], |mesh| {
        let distributed = Distributed::new(mesh).layout("w", &[2], Layout::new([Some("x")])).build().unwrap();
        let mut opt = plain().global_clipnorm(1.0).distributed(distributed).build().unwrap();
        let (mut w, g) = (array![0.0], array![[3e200, 4e200][mesh.rank()]]);
        let report = opt.apply_gradients([Variable::new("w", &mut w).gradient(&g)]).unwrap();
        (report.global_norm.unwrap(), w[0])
    });
    for (rank, (norm, w)) in ends.unwrap().into_iter().enumerate() {
        assert!((norm / 5e200 - 1.0).abs() < 1e-15 && (w + [0.06, 0.08][rank]).abs() < 1e-15, "{norm} {w}");
    }
}

/// A distribution whose n-th call between ranks fails, on all ranks.
#[derive(Debug)]
struct Failing {
    inner: Arc<Distributed>,
    world: FailingGroup,
}

#[derive(Debug, Clone)]
struct FailingGroup {
    /// `None` is the group of all ranks.
    group: Option<Arc<dyn Collective>>,
    all: Arc<Distributed>,
    left: Arc<AtomicUsize>,
}

const FAILURE: CollectiveError = CollectiveError::RankLost { rank: 9, reason: String::new() };

impl FailingGroup {
    fn group(&self) -> &dyn Collective {
        self.group.as_deref().unwrap_or_else(|| self.all.world())
    }

    fn check(&self) -> Result<(), CollectiveError> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| FAILURE)
    }
}

struct FailingSum<'g>(Box<dyn Pending + 'g>, Result<(), CollectiveError>);

impl Pending for FailingSum<'_> {
    fn wait(self: Box<Self>) -> Result<Numbers, CollectiveError> {
        let sum = self.0.wait();
        self.1.and(sum)
    }
}

impl Collective for FailingGroup {
    fn ranks(&self) -> usize {
        self.group().ranks()
    }
    fn rank(&self) -> usize {
        self.group().rank()
    }
    fn start_sum(&self, numbers: Numbers) -> Result<Box<dyn Pending + '_>, CollectiveError> {
        Ok(Box::new(FailingSum(self.group().start_sum(numbers)?, self.check())))
    }
    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.check()?;
        self.group().gather(bytes)
    }
    fn broadcast(&self, root: usize, bytes: Vec<u8>) -> Result<Vec<u8>, CollectiveError> {
        self.check()?;
        self.group().broadcast(root, bytes)
    }
}

impl Distribution for Failing {
    fn world(&self) -> &dyn Collective {
        &self.world
    }
    fn placement(&self, variable: &str, shape: &[usize]) -> Result<Arc<Placement>, CollectiveError> {
        let mut placement = (*self.inner.placement(variable, shape)?).clone();
        let failing =
            |group| -> Arc<dyn Collective> { Arc::new(FailingGroup { group: Some(group), ..self.world.clone() }) };
        placement.replicas = placement.replicas.map(|Replicas { group, reduction }| {
            // One group for all variables; otherwise each variable would be a bucket of its own.
            Replicas { group: if self.inner.overlaps() { failing(group) } else { group }, reduction }
        });
        placement.part = placement.part.map(|part| Part { group: failing(part.group), ..part });
        Ok(Arc::new(placement))
    }
    fn shards_state(&self) -> bool {
        self.inner.shards_state()
    }
    fn bucket_bytes(&self) -> usize {
        1
    }
    fn overlaps(&self) -> bool {
        self.inner.overlaps()
    }
}

/// Fails the n-th call of a step, for each n. Returns for each n whether the step was left half applied.
fn failures(distributed: impl Fn(&Mesh) -> Distributed + Sync, clip: bool) -> Vec<bool> {
    let mut poisoned = Vec::new();
    for calls in 0.. {
        let ends = Mesh::threads_within(LIMIT, &[("x", 2)], |mesh| {
            let inner = Arc::new(distributed(mesh));
            let left = Arc::new(AtomicUsize::new(usize::MAX));
            let world = FailingGroup { group: None, all: Arc::clone(&inner), left: Arc::clone(&left) };
            let builder = if clip { plain().global_clipnorm(0.1) } else { plain() };
            let mut opt = builder.distributed(Failing { inner, world }).build().unwrap();
            let mut model = Model::new();
            model.step(&mut opt).unwrap();
            let before = (model.values.clone(), opt.weights());
            left.store(calls, Ordering::Relaxed);
            let result = model.step(&mut opt);
            left.store(usize::MAX, Ordering::Relaxed);
            if result.is_ok() {
                return None;
            }
            assert_eq!(result, Err(FAILURE.into()), "call {calls}");
            match model.step(&mut opt) {
                // Nothing had changed: the step can be made again.
                Ok(()) => {
                    let mut again = Model { values: before.0, ..Model::new() };
                    opt.set_weights(before.1).unwrap();
                    again.step(&mut opt).unwrap();
                    assert_eq!(again.values, model.values, "call {calls}");
                    Some(false)
                }
                Err(Error::Poisoned) => {
                    // After a restore, the run resumes.
                    let mut again = Model { values: before.0, ..Model::new() };
                    opt.set_weights(before.1).unwrap();
                    again.step(&mut opt).unwrap();
                    Some(true)
                }
                Err(error) => panic!("call {calls}: {error}"),
            }
        })
        .unwrap();
        assert_eq!(ends[0], ends[1], "call {calls}");
        match ends[0] {
            Some(half) => poisoned.push(half),
            None => return poisoned,
        }
    }
    poisoned
}

/// A failure before the update leaves no trace; after a failure later on, the optimizer reports it.
#[test]
fn a_call_that_fails_in_a_step() {
    let plain = |mesh: &Mesh| Distributed::new(mesh).same_gradients_over(["x"]).build().unwrap();
    assert_eq!(failures(plain, false), [false], "the agreement");
    assert_eq!(failures(plain, true), [false, false], "the agreement, the norms");
    let sharded =
        |mesh: &Mesh| Distributed::new(mesh).same_gradients_over(["x"]).shard_state_over("x").build().unwrap();
    assert_eq!(failures(sharded, true), [false, false, true, true], "the agreement, the norms, the parts");
    let overlapping = |mesh: &Mesh| Distributed::new(mesh).sum_gradients_over(["x"]).overlap(true).build().unwrap();
    assert_eq!(failures(overlapping, false), [false, false, true], "the agreement, two buckets");
}

#[test]
fn a_learning_rate_that_one_rank_cannot_use() {
    let errors = refused(
        |_| plain(),
        |_, opt| {
            let schedule = schedule_fn(|_| f64::NAN);
            opt.set_learning_rate(StartingAt::new(schedule, 0)).unwrap();
        },
    );
    assert!(matches!(&errors[2], Error::Hyperparameter(error) if error.name == "learning_rate"), "{errors:?}");
    assert!(matches!(errors[0], Error::Collective(CollectiveError::Refused { rank: 2, .. })), "{errors:?}");
}
