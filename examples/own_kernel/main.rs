//! A kernel of one's own: the call and its CPU twin here, the shader in `soft_cap.wgsl`; computed everywhere and compared.
//!
//! `cargo run --example own_kernel`

use anyhow::{Result, ensure};
use dqo_wgpu::device::{DType, Device, Kernel, Precision, Real, kernel, reaches, word};
use dqo_wgpu::gpu::{AdapterList, Cost, DeviceChoice, Gpu, Launch, Traits, Variant};
use dqo_wgpu::kernels::{launch_flat, only, shared};

static VARIANTS: [Variant; 1] = only(include_str!("soft_cap.wgsl"), &[shared::GRID]);

kernel! {
    /// `y = cap tanh(x / cap)`: large logits held below a cap.
    pub struct SoftCap in "soft_cap" of VARIANTS {
        /// `[count]`
        read x,
        /// `[count]`
        write y,
        ;
        count: u32,
        cap: f32,
    }
}

impl Kernel for SoftCap<'_> {
    fn check(&self) {
        reaches::<Self>(self.x, self.count as usize);
        reaches::<Self>(self.y, self.count as usize);
    }

    fn launch(&self, _: Traits) -> Launch {
        let count = f64::from(self.count);
        launch_flat(&VARIANTS[0], self.count as usize, Cost { flops: 10.0 * count, bytes: 8.0 * count })
    }

    fn twin<T: Real>(&mut self) {
        let cap = T::of(self.cap.into());
        let x = &self.x.real::<T>()[..self.count as usize];
        for (y, &x) in self.y.real_mut::<T>().iter_mut().zip(x) {
            *y = cap * (x / cap).tanh();
        }
    }
}

const COUNT: usize = 1000;

fn soft_cap(device: &Device) -> Result<Vec<f64>> {
    let mut x = device.tensor("x", &[COUNT], DType::Real)?;
    let mut y = device.tensor("y", &[COUNT], DType::Real)?;
    x.write(0, (0..COUNT).map(|i| i as f64 - 500.0))?;
    device.run(SoftCap { x: &x, y: &mut y, count: word(COUNT), cap: 30.0 });
    y.read(COUNT)
}

/// Computes on the CPU in f32 and on the adapter, where there is one, and holds both against the twin in f64.
pub fn main() -> Result<()> {
    let exact = soft_cap(&Device::cpu(Precision::F64))?;
    let mut devices = vec![Device::cpu(Precision::F32)];
    if let Ok(Some(adapter)) = AdapterList::find().choose(&DeviceChoice::Gpu) {
        devices.push(Device::gpu(Gpu::open(adapter)?));
    }
    for device in devices {
        let differences = soft_cap(&device)?.into_iter().zip(&exact).map(|(found, exact)| (found - exact).abs());
        let largest = differences.fold(0.0, f64::max);
        println!("{}: off by {largest:.1e} at most", device.description());
        ensure!(largest < 1e-4, "{} computes wrongly", device.description());
    }
    Ok(())
}
