//! The counts of this machine and this compiler.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::cargo::Call;

/// Instructions per parameter and step, by `contestant/shape/dtype`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Counts {
    pub(crate) compiler: String,
    pub(crate) instruction_set: String,
    pub(crate) per_param: BTreeMap<String, f64>,
}

const BUILD: &str = "build --release -p benches --bin bench-instructions";

/// The function that starts the count, in any module and for any type.
const COUNTED: &str = "--toggle-collect=*measured_steps*";

impl Counts {
    /// Builds the program and runs it under valgrind, once for each count.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let program = Call::new(BUILD).build_program()?;
        let compiler = output(Command::new(env::var_os("RUSTC").unwrap_or("rustc".into())).arg("--version"))?;
        let list = output(&mut valgrind(&["--tool=none", "--quiet"], &program)).context(NO_VALGRIND)?;
        let mut lines = list.lines();
        let instruction_set = lines.next().context("the program prints nothing")?.to_owned();
        let counts = lines.map(|line| {
            let (name, divisor) = line.split_once(' ').with_context(|| format!("no count: {line:?}"))?;
            Ok((name.to_owned(), count(&program, name)? as f64 / divisor.parse::<f64>()?))
        });
        let per_param = counts.collect::<anyhow::Result<_>>()?;
        Ok(Self { compiler: compiler.trim().to_owned(), instruction_set, per_param })
    }
}

fn count(program: &Path, name: &str) -> anyhow::Result<u64> {
    let options = ["--tool=callgrind", "--callgrind-out-file=/dev/null", COUNTED];
    let result = valgrind(&options, program).arg(name).output().context(NO_VALGRIND)?;
    let messages = String::from_utf8_lossy(&result.stderr);
    if !result.status.success() {
        bail!("valgrind failed on {name}: {}\n{messages}", result.status);
    }
    match collected(&messages) {
        Some(count) if count > 0 => Ok(count),
        _ => bail!("valgrind counted nothing of {name}:\n{messages}"),
    }
}

/// The last line of callgrind's output: `==123== Collected : 456`.
fn collected(messages: &str) -> Option<u64> {
    let line = messages.lines().find_map(|line| line.split_once("Collected :"))?;
    line.1.split_whitespace().next()?.parse().ok()
}

const NO_VALGRIND: &str = "valgrind does not run; Debian and Ubuntu have it in the package valgrind";

fn valgrind(options: &[&str], program: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.args(options).arg(program);
    command
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_the_messages() {
        let messages = "==1== Callgrind\n==1== Events    : Ir\n==1== Collected : 1503819\n==1== \n==1== I   refs: 1\n";
        assert_eq!(collected(messages), Some(1_503_819));
        assert_eq!(collected("==1== Collected : many"), None);
        assert_eq!(collected(""), None);
    }
}
