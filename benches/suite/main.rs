//! The program behind `cargo xtask bench`: it times every contestant against its bare loop, and peers if asked.

mod args;
mod compare;
mod overheads;
mod peers;
mod plan;
mod plots;
mod progress;
mod run;
mod table;

#[cfg(test)]
use opt_conformance as _;

use std::fs;
use std::process::ExitCode;

use anyhow::Context;
use args::Args;
use benches::record::Record;
use clap::Parser;
use compare::Baseline;
use peers::Peers;
use plan::Plan;

fn main() -> ExitCode {
    match suite(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn suite(args: &Args) -> anyhow::Result<()> {
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    let plan = Plan::new(args);
    let peers = Peers::start(args, plan.most_threads)?;
    let records = run::all(&plan, &peers)?;
    let overheads = plan.with_overheads.then(|| overheads::measure(&plan)).transpose()?;

    let report = table::report(&records, overheads.as_ref(), baseline.as_ref());
    print!("{report}");
    save(args, &records, &report)
}

fn save(args: &Args, records: &[Record], report: &str) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(records)? + "\n";
    let write = |path: &std::path::Path, text: &str| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    write(&args.out.join("results.json"), &json)?;
    write(&args.out.join("report.txt"), report)?;
    if let Some(path) = &args.json {
        write(path, &json)?;
    }
    for (name, svg) in plots::all(records)? {
        write(&args.out.join(name), &svg)?;
    }
    eprintln!("table, JSON and plots are in {}", args.out.display());
    Ok(())
}
