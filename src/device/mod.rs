//! Where kernels run, and what a kernel is.
//!
//! The model and the trainer are written once against [`Device`] and [`Tensor`]; whether a GPU, a CPU twin or nothing (a
//! plan) carries a call out is decided here.

#[cfg(target_arch = "x86_64")]
mod block_dots;
mod blocks;
mod data;
mod dots;
mod exp;
mod file_blocks;
mod handle;
mod kernel;
mod lanes;
mod ledger;
mod magnitudes;
mod matmul_precision;
mod matrix;
mod nf4;
mod packing;
mod product;
mod read_ahead;
mod real;
mod tensor;
mod vectorized;

pub use blocks::pack_q8_0;
pub use data::{DType, Precision};
pub use dots::dots;
pub use file_blocks::scales_and_minima;
pub use handle::Device;
pub use kernel::{Call, Kernel, Param, kernel, reaches, word};
pub use ledger::Allocation;
pub use matmul_precision::{MAGNITUDES, MatmulPrecision};
pub use matrix::{Matrix, MatrixMut, Rows};
pub use product::{Threads, multiply};
pub use read_ahead::ReadAhead;
pub use real::{Real, largest, sum_over, sum_terms};
pub use tensor::{MAX_ELEMENTS, Tensor, TensorPart, from_bf16, to_bf16};
pub use vectorized::vectorized;
