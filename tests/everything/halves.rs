//! Variables in float16: their masters are the variables of the run in 32 bits, also after a file between any two
//! calls.

use std::io::Cursor;

use half::f16;
use ndarray::ArrayD;
use opt_conformance::problem::Gradient;
use optimizers::checkpoint::{Checkpoint, SaveOptions};
use optimizers::{MomentStorage, Optimizer, Variable, View};

use super::alone::Run;
use super::script::{Call, Event, FROZEN, HEAD, Script, VARIABLES, cast, scaled};

fn named(values: &mut [ArrayD<f16>]) -> Vec<Variable<'_, f32>> {
    VARIABLES.iter().zip(values).map(|((name, _), value)| Variable::half(*name, value)).collect()
}

fn narrow(values: &ArrayD<f64>) -> ArrayD<f16> {
    values.mapv(f16::from_f64)
}

/// The same training with numbers that 16 bits hold.
fn rounded(script: &Script) -> Script {
    let round = |values: &ArrayD<f64>| narrow(values).mapv(f64::from);
    let of_call = |call: &Call| {
        let gradients = call.gradients.iter().map(|gradient| match gradient {
            Gradient::Absent => Gradient::Absent,
            Gradient::Dense(values) => Gradient::Dense(round(values)),
            Gradient::Sparse(rows, values) => Gradient::Sparse(rows.clone(), round(values)),
        });
        Call { events: call.events.clone(), gradients: gradients.collect() }
    };
    let mut script = script.clone();
    script.values = script.values.iter().map(round).collect();
    script.calls = script.calls.iter().map(of_call).collect();
    script
}

#[test]
fn masters_are_the_variables_in_32_bits() {
    for (seed, moments) in (0..6).zip([MomentStorage::Full, MomentStorage::Bf16 { seed: 3 }].into_iter().cycle()) {
        let script = rounded(&Script::new(seed));
        let mut control = Run::<_, f32>::new(&script, 1, moments);
        let mut opt = script.builder::<f32>().boxed().moments(moments).build().unwrap();
        let mut values: Vec<ArrayD<f16>> = script.values.iter().map(narrow).collect();
        for number in 0..script.calls.len() {
            let mut file = Cursor::new(Vec::new());
            SaveOptions::new().write(&mut file, &opt, &named(&mut values)).unwrap();
            let file = Checkpoint::from_bytes(file.into_inner()).unwrap();
            let before = (opt.weights(), values.clone());
            opt = Optimizer::from_config(file.config().unwrap(), &optimizers::registry()).unwrap();
            values.iter_mut().for_each(|value| value.fill(f16::ONE));
            file.load(&mut opt, &mut named(&mut values)).unwrap();
            assert!((opt.weights(), values.clone()) == before, "seed {seed}, before call {number}");

            let call = &script.calls[number];
            for event in &call.events {
                match event {
                    Event::Freeze => opt.freeze(FROZEN).unwrap(),
                    Event::Unfreeze => opt.unfreeze(FROZEN).unwrap(),
                    Event::Rate(rate) => opt.set_group_learning_rate(HEAD, *rate).unwrap(),
                    Event::Flush => drop(opt.flush(&mut named(&mut values)).unwrap()),
                    Event::Discard => opt.discard_accumulated(),
                }
            }
            let gradients = cast::<f32>(&scaled(&call.gradients, opt.loss_scale()));
            // Dense gradients are given in 16 bits, too.
            let halves: Vec<Option<ArrayD<f16>>> = gradients
                .iter()
                .map(|gradient| match gradient {
                    Some((None, values)) => Some(values.mapv(f16::from_f32)),
                    _ => None,
                })
                .collect();
            let variables = named(&mut values).into_iter().zip(&gradients).zip(&halves);
            let variables = variables.map(|((variable, gradient), half)| match (gradient, half) {
                (_, Some(half)) => variable.half_gradient(half),
                (Some((Some(rows), values)), _) => variable.sparse_gradient(rows, View::from(values)),
                _ => variable,
            });
            let outcome = opt.apply_gradients(variables.collect::<Vec<_>>()).unwrap().outcome;
            let context = format!("seed {seed}, call {number}");
            assert_eq!(outcome, control.call(&script, number), "{context}");
            for (((name, _), value), want) in VARIABLES.iter().zip(&values).zip(&control.values) {
                assert_eq!(value, want.mapv(f16::from_f32), "{name}: {context}");
                if let Ok(master) = opt.slot(name, "master") {
                    let want: Vec<f64> = want.iter().map(|w| f64::from(*w)).collect();
                    assert_eq!(master.to_f64(), want, "{name}: {context}");
                }
            }
        }
    }
}
