//! Calls of cargo, with their output passed through.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::Deserialize;

/// One call of cargo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Whether the nightly toolchain is used.
    nightly: bool,
    args: Vec<String>,
    env: Vec<(&'static str, String)>,
}

impl Call {
    /// A call with arguments separated by blanks.
    pub(crate) fn new(args: &str) -> Self {
        Self { nightly: false, args: args.split_whitespace().map(str::to_owned).collect(), env: Vec::new() }
    }

    /// The same call of the nightly toolchain.
    pub(crate) fn nightly(args: &str) -> Self {
        Self { nightly: true, ..Self::new(args) }
    }

    /// Adds an argument, which may hold blanks.
    pub(crate) fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.env.push((key, value.into()));
        self
    }

    /// Prints the call and runs it; fails if cargo does.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        self.run_to(&[0])
    }

    /// Prints the call and runs it; fails if it ends with an exit code that is not listed.
    pub(crate) fn run_to(&self, codes: &[i32]) -> anyhow::Result<()> {
        eprintln!("$ {self}");
        let status = self.command().status().with_context(|| format!("cannot start `{self}`"))?;
        if !status.code().is_some_and(|code| codes.contains(&code)) {
            bail!("`{self}` failed: {status}");
        }
        Ok(())
    }

    /// Runs it without output; returns whether it succeeded.
    pub(crate) fn succeeds(&self) -> bool {
        self.command().stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Runs it and returns its output.
    pub(crate) fn output(&self) -> anyhow::Result<Vec<u8>> {
        let output = self.command().stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("cannot start `{self}`"))?;
        if !output.status.success() {
            bail!("`{self}` failed: {}", output.status);
        }
        Ok(output.stdout)
    }

    /// Runs it and gives each line of its messages to `see`, as it comes; returns whether it succeeded.
    pub(crate) fn watch(&self, mut see: impl FnMut(&str)) -> anyhow::Result<bool> {
        let cannot_start = || format!("cannot start `{self}`");
        let mut child = self.command().stderr(Stdio::piped()).spawn().with_context(cannot_start)?;
        let mut lines = BufReader::new(child.stderr.take().with_context(cannot_start)?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            see(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
        Ok(child.wait()?.success())
    }

    /// Runs a build of one program and returns the path of the program.
    pub(crate) fn build_program(&self) -> anyhow::Result<PathBuf> {
        self.run()?;
        let messages = self.clone().arg("--quiet").arg("--message-format=json").output()?;
        program(&messages).with_context(|| format!("`{self}` does not say where the program is"))
    }

    fn command(&self) -> Command {
        if self.nightly {
            // Only rustup's cargo understands `+nightly`, and CARGO is the cargo of this toolchain.
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo"]).args(&self.args).env_remove("CARGO");
            command.envs(self.env.iter().map(|(key, value)| (key, value)));
            return command;
        }
        // Cargo sets CARGO to its own path, so that the chosen toolchain stays the same.
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(&self.args).envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }
}

/// The path of the built program, in cargo's messages.
fn program(messages: &[u8]) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
    }
    let messages = messages.split(|&byte| byte == b'\n');
    messages.filter_map(|line| serde_json::from_slice::<Message>(line).ok()?.executable).next_back()
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in &self.env {
            write!(f, "{key}={value:?} ")?;
        }
        write!(f, "cargo{}", if self.nightly { " +nightly" } else { "" })?;
        self.args.iter().try_for_each(|arg| write!(f, " {arg}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_call_is_an_error_that_names_it() {
        let call = Call::new("no-such-subcommand").env("LAW", "a b");
        let message = call.output().unwrap_err().to_string();
        assert!(message.starts_with("`LAW=\"a b\" cargo no-such-subcommand` failed"), "{message}");
        assert!(call.run().is_err());
        assert!(call.run_to(&[0, 1]).is_err());
        call.run_to(&[101]).unwrap();
        assert!(!call.succeeds());
        assert!(Call::new("--version").succeeds());
    }

    #[test]
    fn lines_are_seen_as_they_come() {
        let mut seen = Vec::new();
        assert!(!Call::new("no-such-subcommand").watch(|line| seen.push(line.to_owned())).unwrap());
        assert!(seen.iter().any(|line| line.contains("no-such-subcommand")), "{seen:?}");
        assert!(Call::new("--version").watch(|_| ()).unwrap());
    }

    #[test]
    fn the_toolchain_is_part_of_the_call() {
        assert_eq!(Call::nightly("miri test").to_string(), "cargo +nightly miri test");
    }

    #[test]
    fn the_program_is_found_in_what_cargo_says() {
        let messages = b"{\"a\":\"b\"}\n{\"executable\":null}\n{\"executable\":\"/a/b\"}\n{\"c\":1}\n";
        assert_eq!(program(messages), Some(PathBuf::from("/a/b")));
        assert_eq!(program(b"{}\n"), None);
    }
}
