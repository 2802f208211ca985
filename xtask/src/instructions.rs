//! `cargo xtask instructions`: compares the instructions of a step with the record.
//!
//! Times of a shared machine say little, so no check depends on them. Instructions, counted by valgrind's callgrind,
//! repeat to within a thousandth. They depend on the compiler and on the instruction set, which is AVX2 under
//! valgrind on any processor that has it. The record names both.

mod counts;
mod record;

use std::path::Path;

use anyhow::bail;
use counts::Counts;
use record::{Record, Verdict};

use crate::workspace::Workspace;

/// Below the root.
const FILE: &str = "benches/instructions.json";

/// Counts, then compares with the record or replaces it. Fails if a count is too large.
pub(crate) fn run(workspace: &Workspace, write: bool) -> anyhow::Result<()> {
    let path = workspace.root.join(FILE);
    let counts = Counts::take()?;
    if write {
        return Record::new(counts).write(&path);
    }
    compare(&path, &counts)
}

fn compare(path: &Path, counts: &Counts) -> anyhow::Result<()> {
    let record = Record::read(path)?;
    if record.instruction_set != counts.instruction_set {
        // This machine cannot be compared. CI's can.
        println!("instructions: recorded for {}, not {}: not compared", record.instruction_set, counts.instruction_set);
        return Ok(());
    }
    let margin = record.margin(&counts.compiler);
    let verdicts = record.compare(counts, margin);
    verdicts.iter().for_each(|(name, verdict)| println!("{name:40} {verdict}"));
    let count = |kind: fn(&Verdict) -> bool| verdicts.iter().filter(|(_, verdict)| kind(verdict)).count();
    let (bad, fewer) = (count(Verdict::is_failure), count(|verdict| matches!(verdict, Verdict::Fewer { .. })));
    println!(
        "instructions: {} counts of {}, recorded with {}; margin {:.0} %",
        verdicts.len(),
        counts.compiler,
        record.compiler,
        100.0 * margin
    );
    if fewer > 0 {
        println!("{fewer} of them are below the record: keep that with `cargo xtask instructions --write`");
    }
    if bad > 0 {
        bail!("{bad} counts are not as recorded; if they are meant to be, `cargo xtask instructions --write`");
    }
    Ok(())
}
