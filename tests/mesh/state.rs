//! Sharded state: its size on each rank, and that it is complete where it must be.

use ndarray::{Array2, ArrayD};
use optimizers::mesh::{Distributed, Layout, Mesh};
use optimizers::state::StateValue;
use optimizers::{Ema, Nadam, Optimizer, Sgd, Variable};

use super::problem::whole;

const SHAPES: [(&str, &[usize]); 4] = [("kernel", &[64, 48]), ("odd", &[7, 5]), ("bias", &[48]), ("wide", &[2, 101])];

fn values() -> Vec<ArrayD<f32>> {
    (0..).zip(SHAPES).map(|(i, (_, shape))| whole(shape, &[i])).collect()
}

fn named<'a>(values: &'a mut [ArrayD<f32>], gradients: &'a [ArrayD<f32>]) -> impl Iterator<Item = Variable<'a, f32>> {
    let variables = SHAPES.iter().zip(values).zip(gradients);
    variables.map(|(((name, _), value), gradient)| Variable::new(*name, value).gradient(gradient))
}

/// Each rank has 1/n of the slots, and at most one row more of each variable than that.
#[test]
fn state_bytes_per_rank_are_a_share() {
    let gradients = values();
    let mut alone = Optimizer::builder(Nadam::new(0.01)).ema(Ema::new(0.9)).build().unwrap();
    alone.apply_gradients(named(&mut values(), &gradients)).unwrap();
    for ranks in [1, 2, 4, 8] {
        let bytes = Mesh::threads(&[("batch", ranks)], |mesh| {
            let distributed =
                Distributed::new(mesh).same_gradients_over(["batch"]).shard_state_over("batch").build().unwrap();
            let builder = Optimizer::builder(Nadam::new(0.01)).ema(Ema::new(0.9));
            let mut opt = builder.distributed(distributed).build().unwrap();
            opt.apply_gradients(named(&mut values(), &gradients)).unwrap();
            opt.state_bytes()
        })
        .unwrap();
        assert_eq!(bytes.iter().sum::<usize>(), alone.state_bytes(), "nothing is kept twice, nothing is lost");
        // Slots m, v and average; a row of `kernel` and `odd`, an element of `bias`, a column of `wide`.
        let rounding = 3 * size_of::<f32>() * (48 + 5 + 1 + 2);
        let share = alone.state_bytes() / ranks;
        assert!(bytes.iter().all(|&bytes| bytes.abs_diff(share) <= rounding), "{bytes:?} on {ranks} ranks");
        // The arrays are large: the rounding is a small part of a share.
        assert!(rounding * 5 < share * 2, "{rounding} of {share}");
    }
}

/// The averages replace the model on every rank, complete, and are swapped back.
#[test]
fn averages_in_parts_are_put_together() {
    let mut alone = vec![whole::<f64>(&[9, 5], &[1]), whole(&[6], &[2])];
    let gradients = vec![whole::<f64>(&[9, 5], &[3]), whole(&[6], &[4])];
    let mut opt = Optimizer::builder(Sgd::new(0.1).momentum(0.9)).ema(Ema::new(0.5)).build().unwrap();
    opt.step(&mut alone, &gradients).unwrap();
    let averages = opt.swap_in_averages(&mut alone).unwrap().clone();
    let ends = Mesh::threads(&[("batch", 4)], |mesh| {
        let distributed =
            Distributed::new(mesh).same_gradients_over(["batch"]).shard_state_over("batch").build().unwrap();
        let builder = Optimizer::builder(Sgd::new(0.1).momentum(0.9)).ema(Ema::new(0.5));
        let mut opt = builder.distributed(distributed).build().unwrap();
        let mut model = vec![whole::<f64>(&[9, 5], &[1]), whole(&[6], &[2])];
        opt.step(&mut model, &gradients).unwrap();
        let swapped = opt.swap_in_averages(&mut model).unwrap().clone();
        // Another step is possible: the guard has swapped back on all ranks.
        assert_eq!(model, alone);
        opt.step(&mut model, &gradients).unwrap();
        opt.finalize_variable_values(&mut model).unwrap();
        (swapped, model)
    })
    .unwrap();
    opt.step(&mut alone, &gradients).unwrap();
    opt.finalize_variable_values(&mut alone).unwrap();
    for (swapped, model) in ends {
        assert_eq!(swapped, averages);
        assert_eq!(model, alone);
    }
}

/// Without sharded state every rank has all averages: rank 0 may evaluate alone.
#[test]
fn one_rank_may_look_at_averages_where_all_have_them() {
    let ends = Mesh::threads(&[("batch", 2)], |mesh| {
        let distributed = Distributed::new(mesh).mean_gradients_over(["batch"]).build().unwrap();
        let builder = Optimizer::builder(Sgd::new(0.5)).ema(Ema::new(0.5));
        let mut opt = builder.distributed(distributed).build().unwrap();
        let mut model = vec![Array2::<f64>::ones((2, 2))];
        opt.step(&mut model, &vec![Array2::<f64>::ones((2, 2))]).unwrap();
        let average = (mesh.rank() == 0).then(|| opt.swap_in_averages(&mut model).unwrap()[0][[0, 0]]);
        opt.step(&mut model, &vec![Array2::<f64>::ones((2, 2))]).unwrap();
        (average, model[0][[1, 1]])
    });
    assert_eq!(ends.unwrap(), [(Some(0.75), 0.0), (None, 0.0)]);
}

/// A run that is saved rank by rank and restored resumes bit for bit.
#[test]
fn restoring_continues() {
    let gradients = values();
    let same = Mesh::threads(&[("batch", 2), ("model", 2)], |mesh| {
        let build = || {
            let layout = Layout::new([None, Some("model")]);
            let distributed = Distributed::new(mesh).layout("kernel", &[64, 48], layout).shard_state_over("batch");
            let distributed = distributed.same_gradients_over(["batch", "model"]);
            Optimizer::builder(Nadam::new(0.01)).distributed(distributed.build().unwrap()).build().unwrap()
        };
        let layouts = SHAPES
            .map(|(name, _)| if name == "kernel" { Layout::new([None, Some("model")]) } else { Layout::replicated() });
        let local = |arrays: Vec<ArrayD<f32>>| -> Vec<ArrayD<f32>> {
            arrays.iter().zip(&layouts).map(|(array, layout)| mesh.scatter(layout, &array.view()).unwrap()).collect()
        };
        let (mut through, gradients) = (local(values()), local(gradients.clone()));
        let mut opt = build();
        opt.apply_gradients(named(&mut through, &gradients)).unwrap();
        opt.apply_gradients(named(&mut through, &gradients)).unwrap();

        let mut restored = local(values());
        let mut first = build();
        first.apply_gradients(named(&mut restored, &gradients)).unwrap();
        let saved = first.weights();
        let mut second = build();
        second.add_variables(&mut named(&mut restored, &gradients).collect::<Vec<_>>()).unwrap();
        second.set_weights(saved).unwrap();
        second.apply_gradients(named(&mut restored, &gradients)).unwrap();
        through == restored && opt.weights() == second.weights()
    })
    .unwrap();
    assert_eq!(same, [true; 4]);
}

/// A slot whose size is not that of this rank's part is refused.
#[test]
fn the_whole_state_does_not_fit_a_part() {
    let ends = Mesh::threads(&[("batch", 2)], |mesh| {
        let distributed =
            Distributed::new(mesh).same_gradients_over(["batch"]).shard_state_over("batch").build().unwrap();
        let mut opt = Optimizer::builder(Sgd::new(0.1).momentum(0.9)).distributed(distributed).build().unwrap();
        let mut w = Array2::<f32>::zeros((4, 3));
        opt.add_variables(&mut [Variable::new("w", &mut w)]).unwrap();
        let StateValue::Array(part) = opt.slot("w", "momentum").unwrap() else { panic!("an array slot") };
        assert_eq!(part.shape(), [2, 3]);
        let whole = StateValue::from(Array2::<f32>::ones((4, 3)).into_dyn());
        opt.set_weights([StateValue::Iterations(3), whole]).unwrap_err().to_string()
    });
    for message in ends.unwrap() {
        assert_eq!(message, "weight 1 (w/momentum): expected an array of shape [2, 3], got an array of shape [4, 3]");
    }
}
