//! Trains a small transformer that continues a text, character by character, on the beginning of Shakespeare's works.
//!
//! ```sh
//! cargo run --release --example char_model
//! ```

#[path = "../shared/shared.rs"]
mod shared;
mod transformer;

use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap, loss, ops};
use clap::Parser;

use shared::{Args, Choice, Random, Result, Run, Task, draw_weights, ours, plain};
use transformer::{CONTEXT, Transformer};

const TEXT: &str = include_str!("../../../optimizers/examples/data/shakespeare.txt");

/// Texts in a step.
const BATCH: usize = 16;
/// One character in ten is for tests.
const TEST_PART: usize = 10;
const STEPS: u64 = 500;
/// Characters of the sample that is printed at the end.
const SAMPLE: usize = 300;

fn main() -> Result<()> {
    let args = Args::parse();
    let varmap = VarMap::new();
    let text = Text::load(&VarBuilder::from_varmap(&varmap, DType::F32, &Device::Cpu))?;
    draw_weights(&varmap, args.seed)?;
    let run = Run::new::<Text>(&args, &varmap, STEPS)?;
    match args.optimizer {
        Choice::Adamw => {
            let optimizer = ours(&varmap, run.schedule())?;
            run.train(&text, optimizer)?;
        }
        Choice::CandleAdamw => run.train(&text, plain(&varmap, args.learning_rate)?)?,
    }
    println!("\n{}", text.sample(&mut Random::new(args.seed))?);
    Ok(())
}

/// The model and its text, as numbers of characters.
struct Text {
    model: Transformer,
    characters: Vec<char>,
    training: Vec<u32>,
    test: Vec<u32>,
}

impl Text {
    fn load(vb: &VarBuilder<'_>) -> Result<Self> {
        let mut characters: Vec<char> = TEXT.chars().collect();
        characters.sort_unstable();
        characters.dedup();
        let number = |c: char| characters.binary_search(&c).expect("every character is there") as u32;
        let mut training: Vec<u32> = TEXT.chars().map(number).collect();
        let test = training.split_off(training.len() - training.len() / TEST_PART);
        Ok(Self { model: Transformer::new(characters.len(), vb)?, characters, training, test })
    }

    /// The loss of texts that start at these places.
    fn loss_at(&self, text: &[u32], places: &[usize]) -> Result<Tensor> {
        let texts = |shift: usize| {
            let numbers: Vec<u32> = places.iter().flat_map(|&at| &text[at + shift..][..CONTEXT]).copied().collect();
            Tensor::from_vec(numbers, (places.len(), CONTEXT), &Device::Cpu)
        };
        let next = self.model.forward(&texts(0)?)?.flatten_to(1)?;
        Ok(loss::cross_entropy(&next, &texts(1)?.flatten_all()?)?)
    }

    /// Continues an empty line.
    fn sample(&self, random: &mut Random) -> Result<String> {
        let newline = self.characters.binary_search(&'\n').expect("the text has lines") as u32;
        let mut numbers = vec![newline];
        for _ in 0..SAMPLE {
            let context = &numbers[numbers.len().saturating_sub(CONTEXT)..];
            let input = Tensor::from_slice(context, (1, context.len()), &Device::Cpu)?;
            let next = self.model.forward(&input)?.get(0)?.get(context.len() - 1)?;
            numbers.push(draw(&ops::softmax(&next, 0)?.to_vec1()?, random));
        }
        Ok(numbers.iter().skip(1).map(|&number| self.characters[number as usize]).collect())
    }
}

/// Draws a number by its probability.
fn draw(probabilities: &[f32], random: &mut Random) -> u32 {
    let mut rest = random.unit();
    let drawn = probabilities.iter().position(|probability| {
        rest -= probability;
        rest < 0.0
    });
    drawn.unwrap_or(probabilities.len() - 1) as u32
}

impl Task for Text {
    const NAME: &str = "char_model";
    const UNIT: &str = "tokens";
    const UNITS_A_STEP: usize = BATCH * CONTEXT;

    fn loss(&self, random: &mut Random) -> Result<Tensor> {
        let places: Vec<usize> = (0..BATCH).map(|_| random.below(self.training.len() - CONTEXT)).collect();
        self.loss_at(&self.training, &places)
    }

    fn test_loss(&self) -> Result<f64> {
        let places: Vec<usize> = (0..self.test.len() - CONTEXT).step_by(2 * CONTEXT).collect();
        Ok(f64::from(self.loss_at(&self.test, &places)?.to_scalar::<f32>()?))
    }
}
