//! What an adapter can do at most, measured: the yardsticks of the table.

use anyhow::Result;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::timing::seconds_of;
use crate::device::{DType, Device, Kernel, Real, Tensor, kernel, reaches};
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

    /// On the CPU, too, nothing but multiply-adds: in registers, on every thread.
    fn twin<T: Real>(&mut self) {
        let (iterations, factor) = (self.iterations, T::of(self.factor.into()));
        rayon::broadcast(|_| {
            for _ in 0..iterations {
                std::hint::black_box(Arch::new().dispatch(MultiplyAdds { factor }));
            }
        });
    }
}

/// Multiply-adds of an iteration of the CPU's yardstick.
const CPU_MULTIPLY_ADDS: usize = 12 << 20;

struct MultiplyAdds<T> {
    factor: T,
}

impl<T: Real> WithSimd for MultiplyAdds<T> {
    type Output = T;

    #[inline(always)] // so that it is compiled with the processor's features
    fn with_simd<S: Simd>(self, simd: S) -> T {
        /// Sums that do not wait for one another, of which 16 registers hold all.
        const SUMS: usize = 12;
        let factor = T::splat(simd, self.factor);
        let mut sums = [factor; SUMS];
        for _ in 0..CPU_MULTIPLY_ADDS / SUMS / T::lanes::<S>() {
            for sum in &mut sums {
                *sum = T::mul_add_vectors(simd, *sum, factor, factor);
            }
        }
        let mut total = factor;
        for sum in sums {
            total = T::add_vectors(simd, total, sum);
        }
        T::sum_vector(simd, total)
    }
}

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
    result: Tensor,
    iterations: u32,
    /// What is copied and where to, as soon as it is asked for: it takes memory.
    copied: Option<[Tensor; 2]>,
}

/// Values that the yardstick of copying copies where the device is a CPU.
const COPIED_ON_CPU: usize = 1 << 22;

/// The same on a GPU: 256 MiB, which is more than any cache holds.
const COPIED_ON_GPU: usize = 1 << 26;

/// Seconds of a dispatch of the yardstick of multiply-adds at least: what it takes to start one is nothing beside.
const SPAN: f64 = 2e-3;

impl Yardsticks {
    /// The yardsticks of a device.
    ///
    /// # Errors
    /// Where it has no room or fails.
    pub fn new(device: &Device) -> Result<Self> {
        let (workgroups, iterations) = match device.as_gpu() {
            None => (64, 8),
            Some(gpu) if gpu.traits().software => (64, 4096),
            // Some times what a GPU has at work at once, so that the last of them show little.
            Some(_) => (16384, 64),
        };
        let result = device.tensor("bench/result", &[64 * workgroups, 4], DType::Real)?;
        let mut yardsticks = Self { device: device.clone(), result, iterations, copied: None };
        if device.is_real_gpu() {
            while yardsticks.fma_seconds()? < SPAN && yardsticks.iterations < 1 << 20 {
                yardsticks.iterations *= 2;
            }
        }
        Ok(yardsticks)
    }

    /// Bytes a second, read and written.
    ///
    /// # Errors
    /// Where the device has no room or fails.
    pub fn bytes(&mut self) -> Result<f64> {
        let device = &self.device;
        let tensor = |name: &str| device.tensor(name, &[copied_values(device)], DType::Real);
        let [x, y] = match &mut self.copied {
            Some(copied) => copied,
            none => none.insert([tensor("bench/x")?, tensor("bench/y")?]),
        };
        let count = x.len();
        let seconds = seconds_of(device, || device.run(Copy { x: &*x, y: &mut *y, count: count as u32 }))?;
        Ok(2.0 * (count * device.precision().bytes()) as f64 / seconds)
    }

    /// Floating-point operations a second; a fused multiply-add is two.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn flops(&mut self) -> Result<f64> {
        let seconds = self.fma_seconds()?;
        let operations = if self.device.as_gpu().is_some() {
            64.0 * (self.result.len() / 4) as f64
        } else {
            2.0 * CPU_MULTIPLY_ADDS as f64 * rayon::current_num_threads() as f64
        };
        Ok(f64::from(self.iterations) * operations / seconds)
    }

    fn fma_seconds(&mut self) -> Result<f64> {
        let (device, result, iterations) = (&self.device, &mut self.result, self.iterations);
        seconds_of(device, || device.run(FmaPeak { result: &mut *result, iterations, factor: 0.999 }))
    }
}

/// A GPU may be small: two such tensors take a quarter of its memory at most.
fn copied_values(device: &Device) -> usize {
    if !device.is_real_gpu() {
        return COPIED_ON_CPU;
    }
    let limits = device.limits();
    let bytes = limits.memory_bytes.map_or(u64::MAX, |bytes| bytes / 8).min(limits.tensor_bytes);
    usize::try_from(bytes / 4).unwrap_or(usize::MAX).min(COPIED_ON_GPU) / 4 * 4
}
