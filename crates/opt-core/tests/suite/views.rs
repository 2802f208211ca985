//! Whatever holds numbers is a variable, and a gradient.

use half::bf16;
use ndarray::{Array, Array0, ArrayD, Axis, IxDyn, ShapeBuilder, array, s};
use opt_core::rule::BLOCK;
use opt_core::state::StateValue;
use opt_core::{Ema, MomentStorage, Optimizer, OptimizerBuilder, Variable, View, ViewMut};
use opt_sgd::Sgd;

/// One step with learning rate 1 and gradient `g`.
fn descend<'a>(w: impl Into<ViewMut<'a, f64>>, g: impl Into<View<'a, f64>>) {
    let mut opt = Optimizer::new(Sgd::new(1.0)).unwrap();
    opt.apply_gradients([Variable::new("w", w).gradient(g.into())]).unwrap();
}

#[test]
fn plain_memory() {
    let (mut vec, mut array, mut number) = (vec![1.0, 2.0], [1.0, 2.0], 1.0);
    descend(&mut vec, &[0.5, 1.0]);
    descend(&mut array, &vec![0.5, 1.0]);
    descend(&mut number, &0.25);
    assert_eq!((vec, array, number), (vec![0.5, 1.0], [0.5, 1.0], 0.75));
    let mut raw = [1.0, 2.0, 3.0, 4.0];
    descend((&mut raw[..], &[2, 2][..]), &array![[1.0, 0.0], [0.0, 1.0]]);
    assert_eq!(raw, [0.0, 2.0, 3.0, 3.0]);
}

#[test]
fn views_of_any_layout() {
    let mut backwards = array![1.0, 2.0, 3.0];
    descend(backwards.slice_mut(s![..;-1]), &array![1.0, 0.0, 0.0]);
    assert_eq!(backwards, array![1.0, 2.0, 2.0]);

    let mut column_major = Array::zeros((2, 3).f());
    let gradient = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    descend(&mut column_major, &gradient);
    assert_eq!(column_major, -&gradient);

    let mut every_second = array![1.0, 1.0, 1.0, 1.0];
    descend(every_second.slice_mut(s![1..;2]), &[1.0, 0.5]);
    assert_eq!(every_second, array![1.0, 0.0, 1.0, 0.5]);

    let mut row_major = array![[1.0, 1.0], [1.0, 1.0]];
    descend(&mut row_major, array![1.0, 0.0].broadcast((2, 2)).unwrap());
    assert_eq!(row_major, array![[0.0, 1.0], [0.0, 1.0]]);

    let mut shared = array![1.0].into_shared();
    let other = shared.clone();
    descend(&mut shared, &[1.0]);
    assert_eq!((shared[0], other[0]), (0.0, 1.0));
}

#[test]
fn no_axes_to_six_and_sizes_from_zero() {
    let mut scalar = Array0::from_elem((), 2.0);
    descend(&mut scalar, &Array0::from_elem((), 0.5));
    assert_eq!(scalar[()], 1.5);
    for shape in [&[0][..], &[1], &[3, 0, 2], &[1, 1], &[2, 3, 1], &[2, 1, 2, 2], &[1, 2, 1, 2, 3], &[2, 1, 2, 1, 2, 3]]
    {
        let mut value = ArrayD::<f64>::ones(IxDyn(shape));
        descend(&mut value, &ArrayD::ones(IxDyn(shape)));
        assert_eq!(value, ArrayD::<f64>::zeros(IxDyn(shape)));
    }
}

/// Around the sizes of blocks and of pieces (8 blocks), every element is updated once, in every layout.
#[test]
fn around_blocks_and_pieces() {
    let blocks = [1, 8].into_iter().flat_map(|blocks| [blocks * BLOCK - 1, blocks * BLOCK, blocks * BLOCK + 1]);
    for length in blocks.chain([2 * BLOCK + 1, 16 * BLOCK + 1]) {
        let gradient = Array::from_shape_fn(length, |i| i as f64);
        let mut value = Array::zeros(length);
        descend(&mut value, &gradient);
        assert_eq!(value, -&gradient);
        let mut room = Array::zeros(2 * length);
        descend(room.slice_mut(s![..;2]), &gradient);
        assert!(room.iter().enumerate().all(|(i, &w)| w == if i % 2 == 0 { -(i as f64 / 2.0) } else { 0.0 }));
    }
}

/// The same for rows: some touched, some not, wide ones and narrow ones.
#[test]
fn around_blocks_and_pieces_by_rows() {
    for (rows, width) in [(9 * BLOCK, 1), (BLOCK / 2, 31), (40, BLOCK), (3, BLOCK + 1), (3, 9 * BLOCK)] {
        let touched: Vec<usize> = (0..rows).rev().filter(|row| row % 3 != 1).collect();
        let values = Array::from_shape_fn((touched.len(), width), |(i, j)| (touched[i] * width + j) as f64);
        let mut value = Array::ones((rows, width));
        let mut opt = Optimizer::new(Sgd::new(1.0).momentum(0.5)).unwrap();
        opt.apply_gradients([Variable::new("w", &mut value).sparse_gradient(&touched, &values)]).unwrap();
        for (row, elements) in value.axis_iter(Axis(0)).enumerate() {
            let moved = |j: usize| if row % 3 == 1 { 0.0 } else { (row * width + j) as f64 };
            assert!(elements.iter().enumerate().all(|(j, &w)| w == 1.0 - moved(j)), "row {row} of {rows}x{width}");
        }
        let Ok(StateValue::Array(momentum)) = opt.slot("w", "momentum") else { panic!("momentum is an array") };
        assert_eq!(momentum, (value - 1.0).into_dyn());
    }
}

/// What lies scattered in memory goes to several threads in whole rows.
#[test]
fn scattered_rows_on_several_threads() {
    // Miri takes minutes for more than just enough.
    let blocks = if cfg!(miri) { 6 } else { 36 };
    for (rows, width) in [(blocks * BLOCK / 64, 64), (3, blocks / 3 * BLOCK), (blocks * BLOCK, 1)] {
        for (gap, gradient_gap) in [(0, 0), (1, 0), (0, 1), (1, 2)] {
            let mut room = Array::zeros((rows, width + gap));
            let gradient = Array::from_shape_fn((rows, width + gradient_gap), |(i, j)| (i * width + j) as f64);
            let gradient = gradient.slice(s![.., ..width]);
            let mut opt = Optimizer::builder(Sgd::new(1.0).momentum(0.5)).threads(4).build().unwrap();
            for _ in 0..2 {
                let value = room.slice_mut(s![.., ..width]);
                opt.apply_gradients([Variable::new("w", value).gradient(gradient)]).unwrap();
            }
            assert!(room.slice(s![.., ..width]) == &gradient * -2.5, "{rows}x{width}: {gap}, {gradient_gap}");
            assert!(room.slice(s![.., width..]).iter().all(|&w| w == 0.0), "{rows}x{width}: {gap}, {gradient_gap}");
        }
    }
}

/// Rows that nothing happens to are passed over, wherever the others lie.
#[test]
fn scattered_rows_that_are_not_touched() {
    for (rows, width) in [(9, 3), (BLOCK / 2, 31), (40, BLOCK)] {
        let touched: Vec<usize> = (0..rows).rev().filter(|row| row % 3 == 1).collect();
        let values = Array::from_shape_fn((touched.len(), width), |(i, j)| (touched[i] * width + j) as f64);
        let mut room = Array::ones((rows, 2 * width));
        let mut opt = Optimizer::new(Sgd::new(1.0)).unwrap();
        let value = room.slice_mut(s![.., ..;2]);
        opt.apply_gradients([Variable::new("w", value).sparse_gradient(&touched, &values)]).unwrap();
        for ((row, column), &w) in room.indexed_iter() {
            let is_touched = row % 3 == 1 && column % 2 == 0;
            let moved = if is_touched { (row * width + column / 2) as f64 } else { 0.0 };
            assert_eq!(w, 1.0 - moved, "{row}, {column} of {rows}x{width}");
        }
    }
}

/// Decay and averages are of all rows, whatever the rule does.
#[test]
fn rows_that_are_not_touched_decay_and_are_averaged() {
    let run = |builder: OptimizerBuilder<Sgd, f64>| {
        let (mut w, mut opt) = (array![[1.0, 1.0], [1.0, 1.0]], builder.build().unwrap());
        opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(&[1_usize], &array![[0.25, 0.5]])]).unwrap();
        let average = opt.slot("w", "average").map(|slot| match slot {
            StateValue::Array(average) => average.to_owned(),
            slot => panic!("{slot:?}"),
        });
        (w, average.ok())
    };
    let new = || Optimizer::builder(Sgd::new(1.0));
    assert_eq!(run(new().weight_decay(0.5)), (array![[0.5, 0.5], [0.25, 0.0]], None));
    let average = array![[1.0, 1.0], [0.875, 0.75]].into_dyn();
    assert_eq!(run(new().ema(Ema::new(0.5))), (array![[1.0, 1.0], [0.75, 0.5]], Some(average)));
    let (w, average) = run(new().weight_decay(0.5).ema(Ema::new(0.5).overwrite_every(1)));
    assert_eq!((w.clone(), average), (array![[0.75, 0.75], [0.625, 0.5]], Some(w.into_dyn())));
}

/// So it is with variables in 16 bits, whose masters lie side by side.
#[test]
fn scattered_rows_in_16_bits_that_are_not_touched() {
    let (rows, width) = (BLOCK / 2, 31);
    let touched: Vec<usize> = (0..rows).filter(|row| row % 3 == 1).collect();
    let mut room = Array::from_elem((rows, 2 * width), bf16::ONE);
    let mut opt = Optimizer::<_, f32>::new(Sgd::new(1.0)).unwrap();
    let variable = Variable::half("w", room.slice_mut(s![.., ..;2]));
    opt.apply_gradients([variable.sparse_gradient(&touched, &Array::ones((touched.len(), width)))]).unwrap();
    for ((row, column), &w) in room.indexed_iter() {
        let expected = if row % 3 == 1 && column % 2 == 0 { bf16::ZERO } else { bf16::ONE };
        assert_eq!(w, expected, "{row}, {column}");
    }
}

/// Moments in fewer bits are rounded by the place of an element in its variable, wherever it lies in memory.
#[test]
fn memory_order_does_not_show_in_roundings() {
    one_in_both_orders(MomentStorage::Bf16 { seed: 5 });
    one_in_both_orders(MomentStorage::Float8 { seed: 5 });
}

fn one_in_both_orders(moments: MomentStorage) {
    let number = |(i, j): (usize, usize)| ((i * 7919 + j * 104_729) % 10_007) as f32 * 1.1e-4 - 0.5;
    let [row_major, column_major] = [false, true].map(|column_major| {
        let mut w = Array::from_shape_fn((20, 30).set_f(column_major), number);
        let builder = Optimizer::builder(Sgd::new(0.1).momentum(0.9)).moments(moments);
        let mut opt = builder.build().unwrap();
        for _ in 0..3 {
            let gradient = w.mapv(|w| w * 0.3);
            opt.apply_gradients([Variable::new("w", &mut w).gradient(&gradient)]).unwrap();
        }
        (w, opt.weights())
    });
    assert!(row_major == column_major);
}

/// Slots lie in memory as their variable did at its first step, if that can matter.
#[test]
fn slots_lie_as_their_variables() {
    let columns = |moments: MomentStorage, sparse: bool| {
        let mut w = Array::<f32, _>::zeros((3, 2).f());
        let mut opt = Optimizer::builder(Sgd::new(1.0).momentum(0.5)).moments(moments).build().unwrap();
        let (variable, ones) = (Variable::new("w", &mut w), Array::ones((3, 2)));
        let variable = if sparse { variable.sparse_gradient(&[0, 1, 2], &ones) } else { variable.gradient(&ones) };
        opt.apply_gradients([variable]).unwrap();
        let strides = match opt.slot("w", "momentum").unwrap() {
            StateValue::Array(momentum) => momentum.strides().to_vec(),
            StateValue::Bf16(momentum) => momentum.strides().to_vec(),
            other => panic!("{other:?}"),
        };
        strides == [1, 3]
    };
    assert!(columns(MomentStorage::Full, false));
    // Rows have to lie together, and roundings are counted by row.
    assert!(!columns(MomentStorage::Full, true) && !columns(MomentStorage::Bf16 { seed: 1 }, false));
}

/// Dense steps on a column-major variable, then sparse ones: slots keep their meaning.
#[test]
fn sparse_steps_after_dense_ones_on_column_major_memory() {
    let mut column_major = Array::zeros((3, 2).f());
    let mut row_major = Array::zeros((3, 2));
    let dense = array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
    let rows = array![[10.0, 20.0]];
    let mut slots = Vec::new();
    for w in [&mut column_major, &mut row_major] {
        let mut opt = Optimizer::new(Sgd::new(1.0).momentum(0.5)).unwrap();
        opt.apply_gradients([Variable::new("w", &mut *w).gradient(&dense)]).unwrap();
        opt.apply_gradients([Variable::new("w", &mut *w).sparse_gradient(&[1_usize], &rows)]).unwrap();
        opt.apply_gradients([Variable::new("w", &mut *w).gradient(&dense)]).unwrap();
        slots.push(opt.weights());
    }
    assert_eq!(column_major, row_major);
    assert_eq!(slots[0], slots[1]);
}

/// Numbers in a slice, a vector or an array take their shape from a slice, a vector or an array.
#[test]
fn shapes_come_in_any_form() {
    let (array, vec) = ([2, 3], vec![2, 3]);
    let step = |variable: Variable<'_, f32>| {
        let mut opt = Optimizer::new(Sgd::new(1.0)).unwrap();
        opt.apply_gradients([variable]).unwrap();
        opt.variables().map(|(_, shape)| shape.to_vec()).next().unwrap()
    };
    let gradient = vec![1.0; 6];
    let mut numbers = [1.0; 6];
    assert_eq!(step(Variable::new("w", (&mut numbers, &array)).gradient((&gradient, &vec))), [2, 3]);
    assert_eq!(step(Variable::new("w", (&mut numbers[..], &vec)).gradient((&gradient[..], &array[..]))), [2, 3]);
    let mut numbers = numbers.to_vec();
    assert_eq!(step(Variable::new("w", (&mut numbers, &vec[..])).gradient((&[1.0; 6], &array))), [2, 3]);
    assert_eq!(numbers, [-2.0; 6]);
    let error =
        Optimizer::new(Sgd::new(1.0)).unwrap().add_variables(&mut [Variable::new("w", (&mut numbers, &[4, 2]))]);
    assert!(matches!(error, Err(opt_core::Error::VariableData { elements: 6, shape, .. }) if shape == [4, 2]));
}
