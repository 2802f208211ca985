//! NovoGrad as a naive loop.
