//! Optimizers of other Rust frameworks behind the protocol of the suite, and ours through their adapters: what a user
//! of these frameworks gets.

mod burn;
mod candle;
mod candle_optimisers;

use std::io::{stdin, stdout};

use anyhow::bail;
use benches::contestants::contestants;
use benches::protocol::{Offer, serve};

/// As small as that of our contestants.
const LEARNING_RATE: f64 = 1e-5;

fn main() -> anyhow::Result<()> {
    let (input, output) = (stdin().lock(), stdout().lock());
    match std::env::args().nth(1).as_deref() {
        Some("burn") => serve(burn::hello(), burn::open, input, output),
        Some("opt-burn") => serve(burn::our_hello(), burn::open_ours, input, output),
        Some("candle") => serve(candle::hello(), candle::open, input, output),
        Some("opt-candle") => serve(candle::our_hello(), candle::open_ours, input, output),
        Some("candle-optimisers") => serve(candle_optimisers::hello(), candle_optimisers::open, input, output),
        other => bail!("which peer? burn, opt-burn, candle, opt-candle or candle-optimisers, not {other:?}"),
    }
}

/// Offers made of `(id, rule, name)`.
fn offers(entries: &[(&str, &str, &str)]) -> Vec<Offer> {
    let offer = |&(id, rule, name): &(&str, &str, &str)| Offer {
        id: id.to_owned(),
        rule: rule.to_owned(),
        name: name.to_owned(),
        max_tensors: None,
    };
    entries.iter().map(offer).collect()
}

/// All contestants of ours, by their own names.
fn all_of() -> Vec<Offer> {
    let entries: Vec<_> = contestants::<f32>().iter().map(|ours| (ours.name, ours.name, ours.name)).collect();
    offers(&entries)
}

/// The name of a variable, as in the suite: the contestants with groups choose by names.
fn weight_name(number: usize) -> String {
    format!("layers.{number}.weight")
}
