//! What is updated in place, and what is copied and counted.

use burn_core::module::{Module, Param};
use burn_core::tensor::{DType, Device, Tensor};
use opt_burn::Copies;
use optimizers::{Nadam, Sgd};

use crate::support::{Given, Matrix, Network, Vector, assert_close, gradient, numbers, plain, vector};

/// The address of a parameter's numbers.
fn address(param: &Vector) -> usize {
    let (_, tensor, _) = param.clone().consume();
    let tensor = tensor.inner().try_into_primitive::<burn_core::backend::Flex>().unwrap();
    tensor.bytes().as_ptr() as usize
}

#[test]
fn an_ordinary_loop_copies_nothing() {
    let mut network = Network::new(1);
    let mut optim = plain(Nadam::new(0.01));
    for step in 0..5 {
        let grads = network.gradients(step);
        let stepped = optim.step(None, network, grads).unwrap();
        assert_eq!((stepped.copies.shared, stepped.copies.scattered, stepped.copies.offloaded), (0, 0, 0));
        network = stepped.module;
    }
}

#[test]
fn numbers_stay_where_they_are() {
    let mut param = vector([1.0, 2.0, 3.0]);
    let before = address(&param);
    let mut optim = plain(Sgd::new(1.0));
    for _ in 0..3 {
        let grads = gradient(&param, [1.0, 1.0, 1.0]);
        param = optim.step(None, param, grads).unwrap().module;
        assert_eq!(address(&param), before);
    }
}

#[test]
fn a_clone_that_is_kept_keeps_its_numbers() {
    let module = vec![vector([1.0, 2.0]), vector([3.0])];
    let kept = module.clone();
    let given = gradient(&module[0], [1.0, 1.0]);
    let stepped = plain(Sgd::new(1.0)).step(None, module, given).unwrap();
    assert_eq!((stepped.copies.shared, stepped.copies.bytes, stepped.copies.tensors()), (1, 8, 1));
    assert_eq!((numbers(&kept[0]), numbers(&stepped.module[0])), (vec![1.0, 2.0], vec![0.0, 1.0]));
}

#[test]
fn a_tensor_that_is_kept_keeps_its_numbers() {
    let param = vector([1.0, 2.0]);
    let kept = param.val();
    let grads = gradient(&param, [1.0, 1.0]);
    let stepped = plain(Sgd::new(1.0)).step(None, param, grads).unwrap();
    assert_eq!(stepped.copies.shared, 1);
    assert_eq!(kept.into_data().try_to_vec_as::<f32>().unwrap(), [1.0, 2.0]);
}

#[test]
fn a_gradient_may_be_the_parameter_itself() {
    let param = vector([1.0, 2.0]);
    let given = Given::default().with(param.id, param.val().inner());
    let stepped = plain(Sgd::new(0.5)).step(None, param, given.0).unwrap();
    assert_eq!(numbers(&stepped.module), [0.5, 1.0]);
    assert_eq!(stepped.copies.shared, 1);
}

fn matrix() -> Matrix {
    Param::from_data([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::flex())
}

#[test]
fn transposed_and_broadcast_gradients_are_copied() {
    let device = Device::flex();
    let transposed = Tensor::<2>::from_data([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]], &device).transpose();
    let broadcast = Tensor::<2>::from_data([[1.0], [2.0]], &device).expand([2, 3]);
    let part = Tensor::<2>::from_data([[9.0, 9.0, 9.0], [1.0, 1.0, 1.0], [2.0, 2.0, 2.0]], &device).slice([1..3, 0..3]);
    let flipped = Tensor::<2>::from_data([[4.0, 5.0, 6.0], [1.0, 2.0, 3.0]], &device).flip([0]);
    for (gradient, want, copies) in [
        (transposed, [0.0; 6], 1),
        (broadcast, [0.0, 1.0, 2.0, 2.0, 3.0, 4.0], 1),
        (flipped, [0.0; 6], 1),
        (part, [0.0, 1.0, 2.0, 2.0, 3.0, 4.0], 0),
    ] {
        let param = matrix();
        let given = Given::default().with(param.id, gradient);
        let stepped = plain(Sgd::new(1.0)).step(None, param, given.0).unwrap();
        assert_eq!(numbers(&stepped.module), want);
        assert_eq!((stepped.copies.gradients, stepped.copies.bytes), (copies, 24 * copies));
    }
}

#[test]
fn parameters_that_are_views_are_copied_once() {
    let whole = Tensor::<2>::from_data([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]], &Device::flex());
    let part = whole.clone().slice([1..3, 0..2]);
    for (tensor, want) in [(whole.transpose(), vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), (part, vec![1.0, 4.0, 2.0, 5.0])] {
        let mut param = Param::from_tensor(tensor);
        let mut optim = plain(Sgd::new(1.0));
        for copies in [1, 0] {
            let ones = Tensor::<2>::ones(param.shape(), &Device::flex());
            let given = Given::default().with(param.id, ones);
            let stepped = optim.step(None, param, given.0).unwrap();
            assert_eq!(stepped.copies.scattered, copies);
            param = stepped.module;
        }
        let want: Vec<f32> = want.into_iter().map(|number| number - 1.0).collect();
        assert_close(&numbers(&param), &want);
    }
}

#[test]
fn parameters_in_16_bits_have_masters() {
    for dtype in [DType::BF16, DType::F16] {
        let mut param = Param::from_tensor(Tensor::<1>::ones([2], (&Device::flex(), dtype)));
        let mut optim = plain(Sgd::new(1e-4));
        for _ in 0..100 {
            let ones = Tensor::<1>::ones([2], (&Device::flex(), dtype));
            let given = Given::default().with(param.id, ones);
            let stepped = optim.step(None, param, given.0).unwrap();
            assert_eq!(stepped.copies, Copies::default());
            param = stepped.module;
        }
        // Each step alone would be rounded away.
        assert_eq!(param.val().dtype(), dtype);
        let close = numbers(&param).iter().all(|number| (number - 0.99).abs() <= 1.0 / 256.0);
        assert!(close, "{dtype:?}: {:?}", numbers(&param));
        let master = optim.engine().slot("value", "master").unwrap().to_f64()[0];
        assert!((master - 0.99).abs() < 1e-5, "{dtype:?}: {master}");
    }
}

#[test]
fn unused_parameters_are_not_touched() {
    let module = vec![vector([1.0]), vector([2.0])];
    let kept = module[1].val();
    let grads = gradient(&module[0], [1.0]);
    let stepped = plain(Sgd::new(1.0)).step(None, module, grads).unwrap();
    assert_eq!(stepped.copies, Copies::default());
    assert_eq!(stepped.module.num_params(), 2);
    drop(kept);
}
