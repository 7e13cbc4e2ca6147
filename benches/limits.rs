//! What an adapter can do at most, measured: the yardsticks of the table.

use anyhow::Result;
use rayon::prelude::*;

use super::timing::seconds_of;
use crate::device::{DType, Device, Kernel, Matrix, MatrixMut, Real, Tensor, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant, line};
use crate::kernels::{only, shared};

static FMA_VARIANTS: [Variant; 1] = only(include_str!("fma_peak.wgsl"), &[]);
static COPY_VARIANTS: [Variant; 1] = only(include_str!("copy.wgsl"), &[shared::GRID]);

kernel! {
    /// Nothing but fused multiply-adds.
    pub struct FmaPeak in "fma_peak" of FMA_VARIANTS {
        /// `[64 * workgroups, 4]`
        write result,
        ;
        iterations: u32,
        factor: f32,
    }
}

impl Kernel for FmaPeak<'_> {
    fn check(&self) {}

    fn launch(&self, _: Traits) -> Launch {
        let workgroups = [(self.result.len() / 256) as u32, 1, 1];
        Launch { variant: &FMA_VARIANTS[0], constants: Vec::new(), workgroups, cost: Cost::default() }
    }

    /// On the CPU the yardstick is the `gemm` crate's product of matrices that stay in the cache: `iterations` of them
    /// on each thread.
    fn twin<T: Real>(&mut self) {
        let iterations = self.iterations;
        rayon::broadcast(|_| {
            let operand = vec![T::one(); CPU_SIZE * CPU_SIZE];
            let mut product = vec![T::zero(); CPU_SIZE * CPU_SIZE];
            let matrix = || Matrix { data: &operand, row_stride: CPU_SIZE, col_stride: 1 };
            for _ in 0..iterations {
                let c = MatrixMut { data: &mut product, rows: CPU_SIZE, cols: CPU_SIZE, row_stride: CPU_SIZE };
                T::gemm(c, matrix(), matrix(), CPU_SIZE, true);
            }
            std::hint::black_box(&product);
        });
    }
}

/// Rows and columns of the matrices of the CPU's yardstick.
const CPU_SIZE: usize = 256;

kernel! {
    /// `y = x`.
    pub struct Copy in "copy" of COPY_VARIANTS {
        /// `[count]`
        read x,
        /// `[count]`
        write y,
        ;
        count: u32,
    }
}

impl Kernel for Copy<'_> {
    fn check(&self) {
        reaches::<Self>(self.x, self.count as usize);
        reaches::<Self>(self.y, self.count as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        let workgroups = line((self.count as usize).div_ceil(256));
        Launch { variant: &COPY_VARIANTS[0], constants: Vec::new(), workgroups, cost: Cost::default() }
    }

    fn twin<T: Real>(&mut self) {
        let x = &self.x.real::<T>()[..self.count as usize];
        let y = self.y.real_mut::<T>();
        y.par_chunks_mut(1 << 16).zip(x.par_chunks(1 << 16)).for_each(|(y, x)| y.copy_from_slice(x));
    }
}

/// The two rates that kernels are held against, measured again and again: other work on the machine changes them.
pub struct Yardsticks {
    device: Device,
    x: Tensor,
    y: Tensor,
    result: Tensor,
    iterations: u32,
}

/// Values that the yardstick of copying copies.
const COPIED: usize = 1 << 22;

impl Yardsticks {
    /// The yardsticks of a device.
    ///
    /// # Errors
    /// Where it has no room.
    pub fn new(device: &Device) -> Result<Self> {
        let is_software = device.as_gpu().is_none_or(|gpu| gpu.traits().software);
        let workgroups = if is_software { 64 } else { 4096 };
        Ok(Self {
            device: device.clone(),
            x: device.tensor("bench/x", &[COPIED], DType::Real)?,
            y: device.tensor("bench/y", &[COPIED], DType::Real)?,
            result: device.tensor("bench/result", &[64 * workgroups, 4], DType::Real)?,
            iterations: if device.as_gpu().is_some() { 4096 } else { 8 },
        })
    }

    /// Bytes a second, read and written.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn bytes(&mut self) -> Result<f64> {
        let (device, x, y) = (&self.device, &self.x, &mut self.y);
        let seconds = seconds_of(device, || device.run(Copy { x, y: &mut *y, count: COPIED as u32 }))?;
        Ok(2.0 * (COPIED * device.precision().bytes()) as f64 / seconds)
    }

    /// Floating-point operations a second; a fused multiply-add is two.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn flops(&mut self) -> Result<f64> {
        let (device, result, iterations) = (&self.device, &mut self.result, self.iterations);
        let seconds = seconds_of(device, || device.run(FmaPeak { result: &mut *result, iterations, factor: 0.999 }))?;
        let operations = if device.as_gpu().is_some() {
            64.0 * (result.len() / 4) as f64
        } else {
            2.0 * (CPU_SIZE as f64).powi(3) * rayon::current_num_threads() as f64
        };
        Ok(f64::from(iterations) * operations / seconds)
    }
}
