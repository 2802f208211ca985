//! Any sequence of calls on any optimizer: the numbers equal the textbook's, and refused calls change nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opt_fuzz::plan::Plan;
use opt_fuzz::run::run;

fuzz_target!(|plan: Plan| {
    run::<f64>(&plan);
    run::<f32>(&plan);
});
