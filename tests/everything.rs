//! Groups, accumulation and loss scaling with everything else at once: the numbers of naive loops, and the same bits
//! for any number of threads, and after saving and resuming between any two calls.

mod alone;
mod checkpoints;
mod halves;
mod oracle;
mod ranks;
mod rounding;
mod script;
