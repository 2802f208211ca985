//! Compiles every CUDA kernel with NVRTC, for which no GPU is needed, and looks at the instructions.
//!
//! `cargo run -p opt-gpu --features cuda --example nvrtc`; with an argument of 20, the kernels of every twentieth
//! update. Without NVRTC it does nothing, unless the environment variable `OPT_GPU_REQUIRED` is set.

#[path = "../tests/cuda_source/programs.rs"]
mod programs;

use opt_gpu::DeviceError;
use opt_gpu::cuda::{compile, source};
use optimizers::state::DType;
use programs::{kinds, program, updates};

const ARCHITECTURE: &str = "sm_90";

/// What would change the bits of results, or would be slow.
const UNWANTED: [&str; 9] = ["fma", ".ftz", ".approx", " add.f", " sub.f", " mul.f", " div.f", ".local", "cvt.f32.f64"];

fn main() -> Result<(), DeviceError> {
    if let Err(error @ DeviceError::Missing { .. }) = compile("", ARCHITECTURE) {
        if std::env::var_os("OPT_GPU_REQUIRED").is_some() {
            return Err(error);
        }
        println!("nothing is compiled: {error}");
        return Ok(());
    }
    let step = std::env::args().nth(1).map_or(1, |step| step.parse().expect("a number of updates"));
    let mut sources: Vec<String> = Vec::new();
    for update in updates::<f32>().iter().chain(&updates::<f64>()).step_by(step) {
        sources.extend(kinds(update).iter().map(|elements| source::step(&program(update, *elements))));
    }
    sources.extend([DType::F32, DType::F64].map(source::measure));
    for source in &sources {
        let binary = compile(source, ARCHITECTURE)?;
        let lines = binary.ptx.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in lines.map(|line| format!(" {}", line.trim())) {
            assert!(!UNWANTED.iter().any(|word| line.contains(word)), "{line} in\n{}\n{source}", binary.ptx);
        }
        assert!(binary.cubin.starts_with(b"\x7fELF"), "no program for the driver");
    }
    println!("{} programs compiled for {ARCHITECTURE}", sources.len());
    Ok(())
}
