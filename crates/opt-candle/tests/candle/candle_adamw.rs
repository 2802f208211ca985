//! `AdamW::pytorch` through candle's own trait follows candle's AdamW.

use candle_core::{DType, Device, Module, Result, Tensor, Var};
use candle_nn::{Activation, Optimizer as _, ParamsAdamW, VarBuilder, VarMap, linear, loss, seq};
use opt_candle::CandleOptimizer;
use optimizers::schedules::CosineDecay;
use optimizers::{AdamW, Optimizer, Sgd};

const CPU: Device = Device::Cpu;
const PARAMS: ParamsAdamW = ParamsAdamW { lr: 0.01, beta1: 0.8, beta2: 0.95, eps: 1e-6, weight_decay: 0.1 };

/// A network of two layers; the numbers of its variables are those of `like`, if there is one.
fn network(like: Option<&VarMap>) -> Result<(VarMap, impl Module)> {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &CPU);
    let model = seq().add(linear(3, 8, vb.pp("hidden"))?).add(Activation::Gelu).add(linear(8, 2, vb.pp("output"))?);
    if let Some(like) = like {
        let from = like.data().lock().unwrap();
        map.data().lock().unwrap().iter().try_for_each(|(name, var)| var.set(&from[name]))?;
    }
    Ok((map, model))
}

/// A loop that knows candle's trait alone.
fn train<O: candle_nn::Optimizer>(opt: &mut O, model: &impl Module, steps: usize) -> Result<f32> {
    let inputs = Tensor::from_iter((0..30).map(|i| (i * 7 % 11) as f32 / 5.0 - 1.0), &CPU)?.reshape((10, 3))?;
    let targets = Tensor::from_iter((0..10).map(|i| u32::from(i % 3 == 0)), &CPU)?;
    let mut last = f32::NAN;
    for step in 0..steps {
        if step == 10 {
            opt.set_learning_rate(opt.learning_rate() / 2.0);
        }
        let loss = loss::cross_entropy(&model.forward(&inputs)?, &targets)?;
        opt.backward_step(&loss)?;
        last = loss.to_scalar()?;
    }
    Ok(last)
}

fn ours() -> AdamW {
    AdamW::pytorch(PARAMS.lr).beta_1(PARAMS.beta1).beta_2(PARAMS.beta2).epsilon(PARAMS.eps)
}

#[test]
fn the_numbers_are_those_of_candle() -> Result<()> {
    let (theirs, their_model) = network(None)?;
    let (map, model) = network(Some(&theirs))?;
    let start: f32 = map.all_vars().iter().map(|var| var.sqr()?.sum_all()?.to_scalar::<f32>()).sum::<Result<_>>()?;

    let their_loss = train(&mut candle_nn::AdamW::new(theirs.all_vars(), PARAMS)?, &their_model, 40)?;
    let builder = Optimizer::builder(ours()).weight_decay(PARAMS.weight_decay);
    let mut opt = CandleOptimizer::from_varmap(&map, builder)?;
    let loss = train(&mut opt, &model, 40)?;

    assert_eq!(opt.engine().iterations(), 40);
    // Each step moves a number by about the rate; both compute in 32 bits, and add in another order.
    let tolerance = 40.0 * PARAMS.lr as f32 * 1e-4;
    for (name, var) in map.data().lock().unwrap().iter() {
        let distance = (var.as_tensor() - theirs.data().lock().unwrap()[name].as_tensor())?.abs()?.flatten_all()?;
        let distance = distance.max(0)?.to_scalar::<f32>()?;
        assert!(distance <= tolerance, "{name}: {distance}");
    }
    assert!((loss - their_loss).abs() <= tolerance, "{loss}, {their_loss}");
    let end: f32 = map.all_vars().iter().map(|var| var.sqr()?.sum_all()?.to_scalar::<f32>()).sum::<Result<_>>()?;
    assert!((start - end).abs() > 100.0 * tolerance, "the variables have moved: {start}, {end}");
    Ok(())
}

#[test]
fn the_rate_of_the_trait_replaces_that_of_the_rule() -> Result<()> {
    let w = Var::new(0.0_f32, &CPU)?;
    let config = Optimizer::builder(Sgd::new(CosineDecay::new(1.0, 4)));
    let mut opt = CandleOptimizer::<Sgd>::new(vec![w.clone()], config)?;
    let gradient = w.backward()?;
    assert_eq!(opt.learning_rate(), 1.0);
    candle_nn::Optimizer::step(&mut opt, &gradient)?;
    assert!(opt.learning_rate() < 1.0);
    opt.set_learning_rate(0.25);
    candle_nn::Optimizer::step(&mut opt, &gradient)?;
    assert_eq!((opt.learning_rate(), w.to_scalar::<f32>()?), (0.25, -1.25));

    opt.set_learning_rate(-1.0);
    let refused = candle_nn::Optimizer::step(&mut opt, &gradient).unwrap_err().to_string();
    assert!(refused.contains("learning_rate"), "{refused}");
    assert_eq!(w.to_scalar::<f32>()?, -1.25);
    Ok(())
}

/// `?` in functions of candle: our errors become candle's, and candle's stay what they are.
#[test]
fn errors_become_those_of_candle() {
    let w = Var::new(&[1.0_f32, 2.0], &CPU).unwrap();
    let mut opt = CandleOptimizer::from_named([("w", w.clone())], Optimizer::builder(Sgd::new(1.0))).unwrap();
    let step = |opt: &mut CandleOptimizer<Sgd>, loss: &Tensor| -> Result<()> {
        opt.backward_step(loss)?;
        Ok(())
    };
    let constant = step(&mut opt, &Tensor::new(1.0_f32, &CPU).unwrap()).unwrap_err();
    assert!(constant.to_string().starts_with("no gradients provided for any of 1 variables"), "{constant}");
    let own: candle_core::Error = opt_candle::Error::from(candle_core::Error::UnwrapNone).into();
    assert!(matches!(own, candle_core::Error::UnwrapNone), "{own}");
}
