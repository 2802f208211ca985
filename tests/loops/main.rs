//! Every loop in every instruction set that the dispatch can choose.

mod denormals;
mod limited;
mod simd;
