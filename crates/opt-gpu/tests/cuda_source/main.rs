//! The CUDA C of all kernels, compiled as C++ and run on the CPU.
#![cfg(feature = "cuda")]

mod device;
mod emulation;
mod measure;
mod nvrtc;
mod programs;
mod step;
mod tables;
