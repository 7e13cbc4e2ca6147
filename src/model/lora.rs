//! Low-rank adapters (LoRA): beside a frozen `y = x W^T` two small matrices that are trained, `y += s (x A^T) B^T`.

use anyhow::Result;

use super::adapter::{A_SUFFIX, B_SUFFIX};
use super::build::Build;
use super::parameter::Parameter;
use super::pass::Pass;
use super::product::{GroupOutput, multiply_group};
use crate::device::{Device, Tensor};
use crate::kernels::Scale;

/// The adapters of one linear layer. The filled-up rows of A and columns of B are zeros, and so are their gradients:
/// any `r` computes as the next multiple of 4 does.
pub struct Lora {
    /// A `[r, in]`
    a: Parameter,
    /// B `[out, r]`
    b: Parameter,
    /// s
    scaling: f32,
}

impl Lora {
    /// The adapters of the linear layer of this name, where it has any.
    ///
    /// # Errors
    /// Where a matrix is missing, has another shape, or has no room.
    pub fn load(build: &Build, layer: &str, [outputs, inputs]: [usize; 2]) -> Result<Option<Self>> {
        let Some(adapter) = build.adapter().filter(|adapter| adapter.config.targets(layer)) else { return Ok(None) };
        let r = adapter.config.r;
        let matrix = |suffix: &str, shape| build.adapter_matrix(adapter, &format!("{layer}{suffix}"), shape);
        let (a, b) = (matrix(A_SUFFIX, [r, inputs])?, matrix(B_SUFFIX, [outputs, r])?);
        Ok(Some(Self { a, b, scaling: adapter.config.scaling() as f32 }))
    }

    /// `y += h B^T` with `h = s x A^T`, of layers that read the same input: of those that have adapters.
    pub fn forward_group<const N: usize>(
        adapters: [Option<&Self>; N],
        pass: &mut Pass,
        x: &Tensor,
        ys: [&mut Tensor; N],
    ) {
        let (device, rows) = (pass.device, pass.batch.tokens);
        let (hs, nothing) = pass.scratch.low_ranks();
        let outputs = adapters.iter().flatten().zip(&mut *hs).map(|(lora, h)| GroupOutput { weight: &lora.a, y: h });
        multiply_group(device, outputs.collect(), x, rows, nothing);
        let adapted = adapters.into_iter().zip(ys).filter_map(|(lora, y)| Some((lora?, y)));
        for ((lora, y), h) in adapted.zip(hs) {
            lora.scale(device, h, rows);
            lora.b.multiply(device, h, y, rows, true);
        }
    }

    /// `dx += dh A` with `dh = s dy B`, which stays in the scratch for [`Lora::backward_weight`].
    pub fn backward_input(&self, pass: &mut Pass, dy: &Tensor, dx: &mut Tensor) {
        let (device, rows, dh) = (pass.device, pass.batch.tokens, pass.scratch.low_rank());
        self.b.multiply_backward_input(device, dy, dh, rows, false);
        self.scale(device, dh, rows);
        self.a.multiply_backward_input(device, dh, dx, rows, true);
    }

    /// `dA += dh^T x` with the `dh` that [`Lora::backward_input`] has just left in the scratch, then `dB += dy^T h`; `h` is
    /// computed again in its place, which is cheaper than to keep it.
    pub fn backward_weight(&mut self, pass: &mut Pass, x: &Tensor, dy: &Tensor) {
        let (device, rows) = (pass.device, pass.batch.tokens);
        let (dh, partial) = pass.scratch.low_rank_and_partial();
        self.a.multiply_backward_weight(device, x, dh, rows, partial);
        let h = dh;
        self.project(device, x, h, rows);
        self.b.multiply_backward_weight(device, h, dy, rows, partial);
    }

    /// `h = s x A^T`
    fn project(&self, device: &Device, x: &Tensor, h: &mut Tensor, rows: usize) {
        self.a.multiply(device, x, h, rows, false);
        self.scale(device, h, rows);
    }

    fn scale(&self, device: &Device, h: &mut Tensor, rows: usize) {
        let count = (rows * self.b.stride()) as u32;
        device.run(Scale { x: h, count, factor: self.scaling });
    }

    /// A and B.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        [&mut self.a, &mut self.b].into_iter()
    }
}
