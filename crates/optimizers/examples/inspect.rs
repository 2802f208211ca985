//! Tells what a file is, what is in it, and whether and how it can be loaded: checkpoints of this library, and files of
//! Keras, TensorFlow, PyTorch and NumPy.
//!
//! ```text
//! cargo run --release --example inspect -- FILE...
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use optimizers::checkpoint::import::{ArraySummary, FileKind, KerasWeights, TorchState};
use optimizers::checkpoint::{Checkpoint, Error};
use optimizers::{OptimizerBuilder, registry};

fn main() -> ExitCode {
    let files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if files.is_empty() {
        eprintln!("usage: cargo run --release --example inspect -- FILE...");
        return ExitCode::FAILURE;
    }
    let mut code = ExitCode::SUCCESS;
    for file in files {
        match report(&file) {
            Ok(report) => print!("{report}"),
            Err(error) => {
                println!("cannot be read: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// What there is to say about a file, in lines.
fn report(path: &Path) -> Result<String, Error> {
    let kind = FileKind::of(path)?;
    let mut text = format!("{}: {kind}\n", path.display());
    match kind {
        FileKind::Checkpoint | FileKind::ShardedCheckpoint => checkpoint(&mut text, path)?,
        FileKind::Npz => npz(&mut text, path)?,
        FileKind::Safetensors => safetensors(&mut text, path)?,
        FileKind::Json => json(&mut text, path),
        other => line(&mut text, &format!("It cannot be loaded as it is: {}.", other.advice())),
    }
    Ok(text)
}

fn line(text: &mut String, content: &str) {
    writeln!(text, "  {content}").expect("memory can be written");
}

fn checkpoint(text: &mut String, path: &Path) -> Result<(), Error> {
    let file = Checkpoint::open(path)?;
    let class = file.config().and_then(|config| config["class_name"].as_str());
    let ranks = file.ranks().map_or(String::new(), |ranks| format!(", {ranks} ranks"));
    let class = class.unwrap_or("no configuration");
    line(text, &format!("{class}, {} steps, {} weights{ranks}", file.iterations()?, file.contents()));
    for tensor in file.tensors() {
        array(text, &tensor.name, &tensor.dtype, &tensor.shape, None);
    }
    file.verify()?;
    line(text, "All checksums are right.");
    let path = path.display();
    line(text, &format!("Load it with Checkpoint::open({path:?})?.load(&mut optimizer, &mut model)?."));
    Ok(())
}

fn npz(text: &mut String, path: &Path) -> Result<(), Error> {
    let file = KerasWeights::open(path)?;
    let arrays: Vec<ArraySummary> = file.arrays().collect();
    arrays_of(text, &arrays);
    let place = path.display();
    let steps = arrays.iter().find(|array| is_counter(&array.name, file.has_names(), &arrays));
    let Some(steps) = steps.and_then(|array| array.number) else {
        line(text, "These are the variables of a model: there is no step counter.");
        line(text, &format!("Load them with KerasWeights::open({place:?})?.load_variables(&mut model)?."));
        return Ok(());
    };
    line(text, &format!("This is the state of an optimizer after {steps} steps."));
    line(text, &format!("Load it with KerasWeights::open({place:?})?.load(&mut optimizer, &mut model)?."));
    if !file.has_names() {
        line(
            text,
            "The arrays have no names: the variables must have the order in which Keras's optimizer made its slots.",
        );
    }
    Ok(())
}

fn is_counter(name: &str, has_names: bool, arrays: &[ArraySummary]) -> bool {
    if has_names {
        let last = name.rsplit('/').next().unwrap_or(name).trim_end_matches(":0");
        return ["iterations", "iteration", "iter"].contains(&last);
    }
    // The state begins with a counter, the list of a model with a variable.
    arrays.first().is_some_and(|first| first.name == name && first.shape.is_empty() && first.dtype.starts_with('I'))
}

fn safetensors(text: &mut String, path: &Path) -> Result<(), Error> {
    let file = TorchState::open(path)?;
    let tensors: Vec<ArraySummary> = file.tensors().collect();
    arrays_of(text, &tensors);
    let place = path.display();
    if !file.is_optimizer() {
        line(text, "These are the tensors of a model: none is called state.NAME.KEY.");
        line(text, &format!("Load them with TorchState::open({place:?})?.load_variables(&mut model)?."));
        return Ok(());
    }
    let steps: Vec<f64> =
        tensors.iter().filter(|tensor| key(tensor) == "step").filter_map(|tensor| tensor.number).collect();
    let least = steps.iter().copied().reduce(f64::min);
    let most = steps.iter().copied().reduce(f64::max);
    let rule = rule(&tensors);
    let said = match (least, most) {
        (Some(least), Some(most)) if least == most => format!("after {most} steps"),
        (Some(least), Some(most)) => format!("whose parameters have taken {least} to {most} steps"),
        _ => "without a step counter".to_owned(),
    };
    line(text, &format!("This is the state of {rule} {said}."));
    let iterations = if steps.is_empty() { ".iterations(n)" } else { "" };
    let call = format!("TorchState::open({place:?})?{iterations}.load(&mut optimizer, &mut model)?");
    line(text, &format!("Load it with {call}."));
    Ok(())
}

/// The key of a tensor called `state.NAME.KEY`.
fn key(tensor: &ArraySummary) -> &str {
    tensor.name.rsplit('.').next().unwrap_or_default()
}

/// The optimizers of PyTorch and timm that keep such state.
fn rule(tensors: &[ArraySummary]) -> &'static str {
    let has = |wanted: &str| tensors.iter().any(|tensor| key(tensor) == wanted);
    let norms = tensors.iter().filter(|tensor| key(tensor) == "exp_avg_sq").all(|tensor| tensor.shape.is_empty());
    match () {
        () if has("momentum_buffer") => "SGD (Sgd::pytorch)",
        () if has("mu_product") => "NAdam (Nadam::pytorch)",
        () if has("exp_avg_sq") && norms => "timm's NvNovoGrad (NovoGrad::nvidia)",
        () if has("max_exp_avg_sq") => "Adam (Adam::pytorch) or AdamW (AdamW::pytorch), with amsgrad,",
        () if has("exp_avg_sq") => "Adam (Adam::pytorch), AdamW (AdamW::pytorch) or RAdam (RectifiedAdam::pytorch)",
        () => "an optimizer that there is not here",
    }
}

fn json(text: &mut String, path: &Path) {
    let value = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let value = value.and_then(|read| serde_json::from_str(&read).map_err(|error| error.to_string()));
    let optimizer = value.and_then(|config: serde_json::Value| {
        let class = config["class_name"].as_str().unwrap_or("no class_name").to_owned();
        let builder = OptimizerBuilder::from_config(&config, &registry::<f64>());
        builder.map(|_| class).map_err(|error| error.to_string())
    });
    match optimizer {
        Ok(class) => {
            line(text, &format!("The configuration of an optimizer: {class}."));
            line(text, "Read it with Optimizer::from_config(&serde_json::from_str(text)?, &registry())?.");
        }
        Err(error) => line(text, &format!("It is no configuration that can be read here: {error}.")),
    }
}

fn arrays_of(text: &mut String, arrays: &[ArraySummary]) {
    for summary in arrays {
        array(text, &summary.name, &summary.dtype, &summary.shape, summary.number);
    }
}

fn array(text: &mut String, name: &str, dtype: &str, shape: &[usize], number: Option<f64>) {
    let number = number.map_or(String::new(), |number| format!(" = {number}"));
    line(text, &format!("  {name}: {dtype} {shape:?}{number}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/imports")
    }

    /// Checks that the report of a file has all of these texts.
    fn says(file: &str, texts: &[&str]) {
        let report = report(&imports().join(file)).unwrap();
        for text in texts {
            assert!(report.contains(text), "{file}: no {text:?} in\n{report}");
        }
    }

    #[test]
    fn files_of_numpy_are_read() {
        let load = "keras_nadam.npz\")?.load(&mut optimizer, &mut model)?.";
        says("keras_nadam.npz", &["an .npz file", "arr_0: I64 [] = 6", "arr_1: F64 [4, 3]\n", "after 6 steps", load]);
        says("keras_nadam.npz", &["The arrays have no names"]);
        says("keras_model.npz", &["arr_1: F64 [3]\n", "variables of a model", "load_variables(&mut model)?."]);
        let by_name = ["nadam/dense_kernel_momentum: F32 [2, 1]", "nadam/iteration: I64 [] = 2", "after 2 steps"];
        says("files/keras3_nadam_names.npz", &by_name);
    }

    #[test]
    fn files_of_safetensors_are_read() {
        says("torch_nadam.safetensors", &["state.0.step: F64 [] = 6", "NAdam (Nadam::pytorch) after 6 steps"]);
        says("torch_sgd.safetensors", &["SGD (Sgd::pytorch) without a step counter", "?.iterations(n).load("]);
        says("torch_novograd.safetensors", &["timm's NvNovoGrad"]);
        says("torch_radam.safetensors", &["RAdam (RectifiedAdam::pytorch)"]);
        says("torch_model.safetensors", &["tensors of a model", "load_variables"]);
    }

    #[test]
    fn checkpoints_are_read_and_verified() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.safetensors");
        let mut opt = optimizers::Optimizer::new(optimizers::Sgd::new(0.5).momentum(0.5)).unwrap();
        let mut w = [1.0_f64];
        opt.apply_gradients([optimizers::Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
        optimizers::checkpoint::save(&path, &opt, &[optimizers::Variable::new("w", &mut w)]).unwrap();
        let text = report(&path).unwrap();
        for expected in ["a checkpoint of this library", "SGD, 1 steps, raw weights", "w/momentum: F64 [1]", "right"] {
            assert!(text.contains(expected), "{text}");
        }
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(report(&path).unwrap_err().is_damage());
    }

    #[test]
    fn files_that_need_a_script_are_told() {
        for (file, kind) in [("files/model.keras", "a .keras file"), ("files/model.h5", "an HDF5 file")] {
            says(file, &[kind, "interop/keras_to_npz.py"]);
        }
        for (file, kind) in [("files/optimizer.pt", "a .pt file of PyTorch"), ("files/optimizer_old.pt", "a pickle")] {
            says(file, &[kind, "interop/torch_to_safetensors.py"]);
        }
        for file in ["/ckpt.index", "/ckpt.data-00000-of-00001", "/ckpt", ""] {
            says(&format!("files/tensorflow{file}"), &["a checkpoint of TensorFlow", "interop/keras_to_npz.py"]);
        }
        says("keras.json", &["a JSON file", "no configuration that can be read here"]);
    }

    #[test]
    fn configurations_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sgd.json");
        std::fs::write(&path, r#"{"class_name": "SGD", "config": {"learning_rate": 0.5}}"#).unwrap();
        let text = report(&path).unwrap();
        assert!(text.contains("The configuration of an optimizer: SGD."), "{text}");
    }
}
