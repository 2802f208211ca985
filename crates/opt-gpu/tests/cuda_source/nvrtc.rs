//! NVRTC, which needs no GPU, compiles the kernels, and the instructions are looked at.

use std::{env, thread};

use opt_gpu::DeviceError;
use opt_gpu::cuda::{compile, source};
use optimizers::state::DType;

use crate::programs::{GRADIENTS, halves, kinds, program, updates};

const ARCHITECTURE: &str = "sm_90";

/// What would change the bits of results, or would be slow.
const UNWANTED: [&str; 9] = ["fma", ".ftz", ".approx", " add.f", " sub.f", " mul.f", " div.f", ".local", "cvt.f32.f64"];

/// Of every twentieth update, or as many as the environment variable `OPT_GPU_EVERY` says: 1 is all. Without NVRTC,
/// this test says so and passes, unless `OPT_GPU_REQUIRED` is set.
#[test]
fn nvrtc_compiles_the_kernels() {
    let is_required = env::var_os("OPT_GPU_REQUIRED").is_some();
    match compile("", ARCHITECTURE) {
        Err(missing @ DeviceError::Missing { .. }) if !is_required => return println!("not tested: {missing}"),
        compiled => compiled.unwrap(),
    };
    let (singles, doubles, halves) = (updates::<f32>(), updates::<f64>(), halves());
    let every = env::var("OPT_GPU_EVERY").map_or(20, |every| every.parse().expect("a number"));
    let full = singles.iter().chain(&doubles).map(|update| (update, update.graph.dtype));
    let narrow = halves.iter().zip(GRADIENTS.into_iter().cycle());
    let chosen = full.chain(narrow).step_by(every);
    let programs = chosen
        .flat_map(|(update, gradient)| kinds(update).iter().map(move |elements| program(update, *elements, gradient)));
    let mut sources: Vec<String> = programs.map(|program| source::step(&program)).collect();
    sources.extend([DType::F32, DType::F64, DType::Bf16, DType::F16].map(source::measure));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for sources in sources.chunks(sources.len().div_ceil(threads)) {
            scope.spawn(|| sources.iter().for_each(|source| check(source)));
        }
    });
    println!("{} programs compiled for {ARCHITECTURE}", sources.len());
}

fn check(source: &str) {
    let binary = compile(source, ARCHITECTURE).unwrap();
    let lines = binary.ptx.lines().filter(|line| !line.trim_start().starts_with("//"));
    for line in lines.map(|line| format!(" {}", line.trim())) {
        assert!(!UNWANTED.iter().any(|word| line.contains(word)), "{line} in\n{}\n{source}", binary.ptx);
    }
    assert!(binary.cubin.starts_with(b"\x7fELF"), "no program for the driver");
}
