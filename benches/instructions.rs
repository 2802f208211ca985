//! The program whose instructions `cargo xtask instructions` counts.
//!
//! Without an argument it prints the instruction set, then one line for each count: a name, and the product of
//! parameters and steps by which to divide. With a name it runs the steps of that count, on one thread. Only
//! [`measured_steps`] is counted.

use anyhow::Context;
use benches::Element;
use benches::contestants::contestants;
use benches::model::Model;
use benches::shapes::Shape;
use optimizers::DynOptimizer;

/// Steps before the count: state is allocated, and RAdam is past its first steps. These are whole cycles.
const WARM_UP: usize = 12;

/// Steps in the count: each contestant does each kind of step at least once.
const STEPS: usize = 6;

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1);
    let (large, small) = (Shape::single(64 * 1024), Shape::many(100, 100));
    let counts = [counts::<f32>(&large), counts::<f64>(&large), counts::<f32>(&small)];
    let mut counts = counts.into_iter().flatten();
    match name {
        None => {
            println!("{}", instruction_set());
            counts.for_each(|count| println!("{} {}", count.name, count.divisor));
            Ok(())
        }
        Some(name) => (counts.find(|count| count.name == name).with_context(|| format!("no count {name:?}"))?.run)(),
    }
}

struct Count<'a> {
    name: String,
    divisor: usize,
    run: Box<dyn FnOnce() -> anyhow::Result<()> + 'a>,
}

fn counts<T: Element>(shape: &Shape) -> Vec<Count<'_>> {
    let count = |contestant: benches::contestants::Contestant<T>| Count {
        name: format!("{}/{}/{}", contestant.name, shape.name, T::NAME),
        divisor: STEPS * shape.params(),
        run: Box::new(move || {
            let (mut model, mut optimizer) = (Model::new(shape), contestant.build(1)?);
            for _ in 0..WARM_UP {
                model.step(&mut optimizer, contestant.traffic.halves)?;
            }
            measured_steps(&mut optimizer, &mut model, contestant.traffic.halves)
        }),
    };
    contestants::<T>().into_iter().map(count).collect()
}

/// Found by its name.
#[inline(never)]
fn measured_steps<T: Element>(
    optimizer: &mut DynOptimizer<T>,
    model: &mut Model<T>,
    halves: bool,
) -> anyhow::Result<()> {
    for _ in 0..STEPS {
        model.step(optimizer, halves)?;
    }
    Ok(())
}

/// The instruction set that the engine uses.
fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "x86_64+avx512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "x86_64+avx2";
        }
    }
    std::env::consts::ARCH
}
