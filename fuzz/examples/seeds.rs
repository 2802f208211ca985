//! Writes the first checkpoints of the corpus: `cargo run --example seeds -- corpus/checkpoint`.

use std::error::Error;
use std::path::PathBuf;

use opt_fuzz::trained::{ACCUMULATED, NADAM, NOVOGRAD};
use optimizers::checkpoint::{Contents, SaveOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("the folder is missing")?);
    let (nadam, novograd) = (NADAM.clone(), NOVOGRAD.clone());
    let path = |name: &str| folder.join(name).with_extension("safetensors");
    SaveOptions::new().save(path("nadam"), &nadam.optimizer, &nadam.variables)?;
    SaveOptions::new().save(path("novograd"), &novograd.optimizer, &novograd.variables)?;
    let accumulated = ACCUMULATED.clone();
    SaveOptions::new().save(path("accumulated"), &accumulated.optimizer, &accumulated.variables)?;
    let averaged = SaveOptions::new().contents(Contents::Averaged).extra(serde_json::json!({"epoch": 3}));
    averaged.save(path("averaged"), &nadam.optimizer, &nadam.variables)?;
    Ok(())
}
