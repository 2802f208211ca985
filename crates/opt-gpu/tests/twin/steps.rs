//! Every rule, wrapper and option.

use opt_conformance::forms::{Builder, forms};
use opt_gpu::GpuOptimizer;
use opt_gpu::device::{Device, Element};
use optimizers::{
    Accumulate, Adam, AdamW, Ema, Exclude, Group, Lookahead, LossScale, Nadam, NonFinite, NovoGrad, Outcome,
    RectifiedAdam, Sgd, StepOptions,
};

use crate::lion::Lion;
use crate::on_devices;
use crate::pair::{Gradient, Pair, boxed, dense, dyadic};

on_devices! {
    with [f32, f64], on lavapipe [f32]:
    every_rule_with_every_option, a_rule_of_a_stranger, variables_come_and_go, gradients_of_zeros, sparse_rows, gradients_accumulate, a_flush_ends_an_epoch,
    numbers_that_are_not_finite, loss_scales, groups, averages_are_swapped_in, state_goes_both_ways,
}

const STEPS: u64 = 7;

/// What is not among the forms of the conformance suite.
fn options<T: Element>() -> [fn(Builder<T>) -> Builder<T>; 4] {
    [
        |builder| builder.clipnorm(2.0).weight_decay(0.0625).exclude_from_weight_decay(Exclude::patterns(["bias"])),
        |builder| builder.ema(Ema::new(0.75).overwrite_every(3)).non_finite(NonFinite::SkipStep),
        |builder| builder.ema(Ema::new(0.75).keras3()).flush_denormals(false),
        |builder| builder.global_clipnorm(2.0).loss_scale(LossScale::fixed(256.0)),
    ]
}

/// Rectified Adam is rectified from the sixth step on.
fn every_rule_with_every_option<D: Device, T: Element>(device: &D) {
    for (name, builder) in forms::<T>() {
        let mut same = forms::<T>().into_iter().filter(|(other, _)| *other == name);
        let (_, again) = same.next().unwrap();
        let mut pair = Pair::new(device, builder, again);
        for step in 0..STEPS {
            assert!(pair.step(&dense(step)).unwrap().is_applied(), "{name}");
        }
    }
}

/// A rule that knows nothing of devices.
fn a_rule_of_a_stranger<D: Device, T: Element>(device: &D) {
    for option in options::<T>() {
        let lion = || Lookahead::new(Lion { learning_rate: 0.0625.into(), ..Lion::default() }).sync_period(3);
        let mut pair = Pair::twice(device, || option(boxed(lion())));
        for step in 0..STEPS {
            assert!(pair.step(&dense(step)).unwrap().is_applied());
        }
    }
}

/// A variable gets its slots with its first gradient; averages of Keras 3 move without one.
fn variables_come_and_go<D: Device, T: Element>(device: &D) {
    for option in options::<T>() {
        let mut pair = Pair::twice(device, || option(boxed(Nadam::new(0.125))));
        for step in 0..STEPS {
            let mut gradients = dense(step);
            gradients[1] = if step < 2 || step == 4 { Gradient::Missing } else { gradients[1].clone() };
            gradients[0] = if step == 3 { Gradient::Missing } else { gradients[0].clone() };
            pair.step(&gradients).unwrap();
        }
        assert!(pair.step(&[const { Gradient::Missing }; 4]).is_err());
    }
}

/// NovoGrad has another structure where all gradients so far were 0.
fn gradients_of_zeros<D: Device, T: Element>(device: &D) {
    for clipnorm in [None, Some(0.5)] {
        let mut pair = Pair::twice(device, || match clipnorm {
            None => boxed::<T>(NovoGrad::new(0.125)),
            Some(clip) => boxed(NovoGrad::new(0.125).grad_averaging(true)).clipnorm(clip),
        });
        for step in 0..4 {
            let mut gradients = dense::<T>(step);
            for (number, (_, shape)) in crate::pair::VARIABLES.iter().enumerate() {
                if (number as u64 + step).is_multiple_of(3) {
                    gradients[number] = Gradient::Dense(vec![T::zero(); shape.iter().product()]);
                }
            }
            pair.step(&gradients).unwrap();
        }
    }
}

fn sparse_rows<D: Device, T: Element>(device: &D) {
    let rules: [fn() -> Builder<T>; 7] = [
        || boxed(Sgd::new(0.125).momentum(0.5)),
        || boxed(Sgd::new(0.125).momentum(0.5).nesterov(true).legacy()),
        || boxed(Adam::new(0.125)),
        || boxed(Nadam::new(0.125)),
        || boxed(Nadam::keras(0.125)).clipnorm(0.5).weight_decay(0.0625),
        || boxed(RectifiedAdam::new(0.125)).ema(Ema::new(0.5)).clipvalue(0.75),
        || boxed(Lookahead::new(NovoGrad::new(0.125)).sync_period(2)),
    ];
    for rule in rules {
        let mut pair = Pair::twice(device, rule);
        for (step, rows) in
            [vec![3, 0], vec![8], vec![], vec![0, 1, 2, 3, 4, 5, 6, 7, 8], vec![7, 2]].into_iter().enumerate()
        {
            let mut gradients = dense(step as u64);
            let values = dyadic(step as u64 + 3, 5 * rows.len());
            gradients[2] = Gradient::Rows(rows, values);
            assert!(pair.step(&gradients).unwrap().is_applied());
        }
    }
}

fn gradients_accumulate<D: Device, T: Element>(device: &D) {
    let builders: [fn() -> Builder<T>; 4] = [
        || boxed(Nadam::new(0.125)).accumulate(Accumulate::mean(3)),
        || boxed(NovoGrad::new(0.125)).accumulate(Accumulate::sum(2)).global_clipnorm(1.0),
        || boxed(Sgd::new(0.125).momentum(0.5)).accumulate(Accumulate::keras3(2)).ema(Ema::new(0.5).keras3()),
        || boxed(Adam::new(0.125)).accumulate(Accumulate::mean(2)).non_finite(NonFinite::SkipStep),
    ];
    for builder in builders {
        let mut pair = Pair::twice(device, builder);
        for step in 0..7 {
            let mut gradients = dense(step);
            gradients[1] = if step % 3 == 1 { Gradient::Missing } else { gradients[1].clone() };
            pair.step_with(&gradients, StepOptions::new().gradient_scale(0.5)).unwrap();
        }
    }
}

fn a_flush_ends_an_epoch<D: Device, T: Element>(device: &D) {
    let mut pair = Pair::twice(device, || boxed::<T>(AdamW::new(0.125)).accumulate(Accumulate::mean(4)));
    for step in 0..3 {
        pair.step(&dense(step)).unwrap();
    }
    for _ in 0..2 {
        let (names, buffers) = (pair.names.clone(), pair.buffers.clone());
        let variables = names.iter().zip(&buffers);
        let variables = variables.map(|((name, shape), buffer)| opt_gpu::GpuVariable::new(name, buffer).shape(shape));
        let got = pair.gpu.flush(variables).unwrap();
        let mut values = std::mem::take(&mut pair.values);
        let mut model: Vec<_> =
            names.iter().zip(&mut values).map(|((name, _), value)| optimizers::Variable::new(name, value)).collect();
        assert_eq!(got, pair.cpu.flush(&mut model).unwrap());
        drop(model);
        pair.values = values;
        pair.compare();
    }
}

fn numbers_that_are_not_finite<D: Device, T: Element>(device: &D) {
    let policies = [NonFinite::Propagate, NonFinite::SkipStep, NonFinite::Error];
    let options: [fn(Builder<T>) -> Builder<T>; 3] = [
        |builder| builder,
        |builder| builder.global_clipnorm(0.5),
        |builder| builder.clipvalue(0.5).accumulate(Accumulate::sum(2)),
    ];
    for policy in policies {
        for option in options {
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3e38] {
                let mut pair = Pair::twice(device, || option(boxed::<T>(Adam::new(0.125))).non_finite(policy));
                for step in 0..4 {
                    let mut gradients = dense::<T>(step);
                    if let (1, Gradient::Dense(values)) = (step, &mut gradients[0]) {
                        values[100] = T::literal(bad);
                    }
                    let stepped = pair.step(&gradients);
                    assert!(stepped.is_ok() || policy == NonFinite::Error, "{stepped:?}");
                }
            }
        }
    }
}

fn loss_scales<D: Device, T: Element>(device: &D) {
    let mut pair =
        Pair::twice(device, || boxed::<T>(Nadam::new(0.125)).loss_scale(LossScale::dynamic().initial(1024.0)));
    for step in 0..6 {
        let mut gradients = dense::<T>(step);
        if let (2, Gradient::Dense(values)) = (step, &mut gradients[3]) {
            values[0] = T::literal(f64::INFINITY);
        }
        let report = pair.step(&gradients).unwrap();
        assert_eq!(report.outcome == Outcome::NonFinite, step == 2);
    }
}

fn groups<D: Device, T: Element>(device: &D) {
    let mut pair = Pair::twice(device, || {
        boxed::<T>(Nadam::new(0.125))
            .weight_decay(0.0625)
            .group(Group::matching("bias").named("biases").weight_decay(0.0).learning_rate_scale(0.5))
            .group(Group::matching("embed").named("embeddings").rule(Sgd::new(0.25).momentum(0.5)).global_clipnorm(0.5))
    });
    for step in 0..STEPS {
        if step == 3 {
            pair.cpu.freeze("biases").unwrap();
            pair.gpu.freeze("biases").unwrap();
            pair.cpu.set_learning_rate(0.0625).unwrap();
            pair.gpu.set_learning_rate(0.0625).unwrap();
        }
        pair.step(&dense(step)).unwrap();
    }
}

fn averages_are_swapped_in<D: Device, T: Element>(device: &D) {
    let mut pair = Pair::twice(device, || boxed::<T>(Nadam::new(0.125)).ema(Ema::new(0.5)));
    pair.step(&dense(0)).unwrap();
    let swap = |pair: &mut Pair<D, T>, back: bool| {
        let (names, buffers) = (pair.names.clone(), pair.buffers.clone());
        let variables = names.iter().zip(&buffers);
        let variables = variables.map(|((name, shape), buffer)| opt_gpu::GpuVariable::new(name, buffer).shape(shape));
        let got = if back { pair.gpu.swap_back(variables) } else { pair.gpu.swap_slot("average", variables) };
        got.unwrap();
        let mut values = std::mem::take(&mut pair.values);
        let model = names.iter().zip(&mut values);
        let model = model.map(|((name, _), value)| optimizers::Variable::new(name, value));
        let got = if back { pair.cpu.swap_back(model) } else { pair.cpu.swap_slot("average", model) };
        got.unwrap();
        pair.values = values;
        pair.compare();
    };
    swap(&mut pair, false);
    assert!(pair.step(&dense(1)).is_err(), "the averages are swapped in");
    swap(&mut pair, true);
    pair.step(&dense(2)).unwrap();
}

/// A training moves from the CPU to the device and back, in the middle of micro-steps.
fn state_goes_both_ways<D: Device, T: Element>(device: &D) {
    let builder = || {
        let rule = Lookahead::new(RectifiedAdam::new(0.125).amsgrad(true)).sync_period(3);
        boxed::<T>(rule).accumulate(Accumulate::mean(2)).ema(Ema::new(0.5))
    };
    let fresh = || GpuOptimizer::new(builder().build().unwrap(), device).unwrap();
    let mut pair = Pair::twice(device, builder);
    for step in 0..STEPS {
        pair.step(&dense(step)).unwrap();
        // Only the state, into a new optimizer.
        let state = pair.gpu.state().unwrap();
        let mut restored = fresh();
        restored.restore(pair.on_device(), state).unwrap();
        pair.gpu = restored;
        pair.compare();
        // The optimizer itself, over the CPU.
        let moved = std::mem::replace(&mut pair.gpu, fresh());
        let moved = moved.into_optimizer().unwrap();
        assert_eq!(moved.weights(), pair.cpu.weights());
        pair.gpu = GpuOptimizer::new(moved, device).unwrap();
    }
}
