//! Prints the next step of an optimizer as equations, from its Keras configuration; and how they differ from those of
//! another dialect.
//!
//! ```text
//! cargo run --release --example explain -- --config FILE
//! cargo run --release --example explain -- --config FILE --step 6 --gradient 3 --against pytorch
//! ```

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use optimizers::{Optimizer, Variable, registry};
use serde_json::Value;

/// Prints the step of an optimizer as equations.
#[derive(Parser)]
struct Arguments {
    /// A file with the configuration of the optimizer, in Keras's JSON.
    #[arg(long)]
    config: PathBuf,
    /// A dialect to compare with: keras, keras_legacy, pytorch, optax, ...
    #[arg(long)]
    against: Option<String>,
    /// The number of the step, counted from 1.
    #[arg(long, default_value_t = 1)]
    step: u64,
    /// The name of the variable, for groups and exclusions from weight decay.
    #[arg(long, default_value = "kernel")]
    variable: String,
    /// The gradient, the same in each step, for clips.
    #[arg(long, default_value_t = 1.0)]
    gradient: f32,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is printed.
fn run(arguments: &Arguments) -> Result<String, Box<dyn Error>> {
    let file = arguments.config.display();
    let text = fs::read_to_string(&arguments.config).map_err(|error| format!("{file}: {error}"))?;
    let config: Value = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
    let own = explain(&config, arguments)?;
    let Some(dialect) = &arguments.against else { return Ok(own) };
    let mut other = config;
    set_dialect(&mut other, dialect);
    Ok(difference(&own, &explain(&other, arguments)?))
}

/// The equations of a step of a variable of one element.
fn explain(config: &Value, arguments: &Arguments) -> Result<String, optimizers::Error> {
    let mut optimizer = Optimizer::from_config(config, &registry::<f32>())?;
    let (mut w, g) = ([1.0], [arguments.gradient]);
    let name = arguments.variable.as_str();
    while optimizer.iterations() + 1 < arguments.step {
        optimizer.apply_gradients([Variable::new(name, &mut w).gradient(&g)])?;
    }
    optimizer.explain(Variable::new(name, &mut w).gradient(&g))
}

/// Sets the dialect of a rule; that of Lookahead is the dialect of the rule inside.
fn set_dialect(config: &mut Value, dialect: &str) {
    let fields = &mut config["config"];
    if fields["optimizer"].is_object() {
        set_dialect(&mut fields["optimizer"], dialect);
    } else {
        fields["dialect"] = dialect.into();
    }
}

/// The lines of both texts: those that only the first one has after `-`, those that only the second one has after `+`.
fn difference(first: &str, second: &str) -> String {
    let mut second: Vec<&str> = second.lines().collect();
    let mut lines = Vec::new();
    for line in first.lines() {
        let Some(same) = second.iter().position(|other| *other == line) else {
            lines.push(format!("- {line}\n"));
            continue;
        };
        lines.extend(second.drain(..same).map(|added| format!("+ {added}\n")));
        second.remove(0);
        lines.push(format!("  {line}\n"));
    }
    lines.extend(second.iter().map(|added| format!("+ {added}\n")));
    lines.concat()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The document shows what is printed.
    #[test]
    fn the_document_is_true() {
        let arguments = Arguments::parse_from(["explain", "--config", "unused", "--step", "2"]);
        let config = json!({"class_name": "AdamW", "config": {}});
        let mut other = config.clone();
        set_dialect(&mut other, "pytorch");
        let [own, other] = [config, other].map(|config| explain(&config, &arguments).unwrap());
        let document = include_str!("../../../docs/equations.md");
        let printed = difference(&own, &other);
        assert!(document.contains(&printed), "{printed}");
    }

    #[test]
    fn dialects_differ() {
        let arguments = Arguments::parse_from(["explain", "--config", "unused", "--step", "2"]);
        let config = json!({"class_name": "SGD", "config": {"learning_rate": 0.5, "momentum": 0.75}});
        let mut other = config.clone();
        set_dialect(&mut other, "pytorch");
        let [own, other] = [config, other].map(|config| explain(&config, &arguments).unwrap());
        let want = "  kernel: step 2 of SGD, learning rate 0.5
-   momentum <- 0.75 momentum - 0.5 g
-   w <- w + momentum
+   momentum <- 0.75 momentum + g
+   w <- w - 0.5 momentum
";
        assert_eq!(difference(&own, &other), want);
        assert_eq!(difference(&own, &own).lines().filter(|line| !line.starts_with(' ')).count(), 0);
    }
}
