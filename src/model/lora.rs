//! Low-rank adapters (LoRA): beside a frozen `y = x W^T` two small matrices that are trained, `y += s (x A^T) B^T`; in a
//! training step with dropout `y += s (d(x) A^T) B^T`, where d leaves out some of x and divides the rest.

use std::ops::Range;

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::adapter::{A_SUFFIX, B_SUFFIX};
use super::build::Build;
use super::parameter::Parameter;
use super::pass::{AdapterBackwardScratch, AdapterScratch, Pass};
use super::product::{GroupOutput, multiply_group};
use crate::data::DeviceBatch;
use crate::device::{Device, Tensor};
use crate::kernels::{Chance, Dropout, Scale};

/// The adapters of one linear layer. The filled-up rows of A and columns of B are zeros, and so are their gradients:
/// any `r` computes as the next multiple of 4 does.
pub struct Lora {
    /// A `[r, in]`
    a: Parameter,
    /// B `[out, r]`
    b: Parameter,
    /// s
    scaling: f32,
    /// d: nothing is left out where the adapters are trained without dropout.
    dropout: Chance,
    /// What tells this layer's d from the others'.
    site: u32,
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
        let name = Sha256::digest(format!("{}/{layer}", build.model));
        let site = u32::from_le_bytes([name[0], name[1], name[2], name[3]]);
        let dropout = Chance::of(adapter.config.dropout);
        Ok(Some(Self { a, b, scaling: adapter.config.scaling() as f32, dropout, site }))
    }

    /// `y += h B^T` with `h = s x A^T`, of layers that read the same input: of those that have adapters.
    pub fn forward_group<const N: usize>(
        adapters: [Option<&Self>; N],
        pass: &mut Pass,
        x: &Tensor,
        ys: [&mut Tensor; N],
    ) {
        let Pass { device, batch, .. } = *pass;
        let (tokens, rows) = (pass.rows.clone(), pass.rows.len());
        let AdapterScratch { hs, nothing, dropped, .. } = pass.scratch.of_adapters(batch.drops);
        match dropped {
            // Each layer's d is its own.
            Some(dropped) => adapters.iter().flatten().zip(&mut *hs).for_each(|(lora, h)| {
                lora.leave_out(device, batch, &tokens, x, dropped, false);
                lora.a.multiply(device, dropped, h, rows, false);
            }),
            None => {
                let hs = adapters.iter().flatten().zip(&mut *hs);
                let outputs = hs.map(|(lora, h)| GroupOutput { weight: &lora.a, y: h });
                multiply_group(device, outputs.collect(), x, rows, nothing);
            }
        }
        let adapted = adapters.into_iter().zip(ys).filter_map(|(lora, y)| Some((lora?, y)));
        for ((lora, y), h) in adapted.zip(hs) {
            lora.scale(device, h, rows);
            lora.b.multiply(device, h, y, rows, true);
        }
    }

    /// `dx += d(dh A)` with `dh = s dy B`, which stays in the scratch for [`Lora::backward_weight`].
    pub fn backward_input(&self, pass: &mut Pass, dy: &Tensor, dx: &mut Tensor) {
        let Pass { device, batch, .. } = *pass;
        let (tokens, rows) = (pass.rows.clone(), pass.rows.len());
        let AdapterBackwardScratch { dh, dropped, .. } = pass.scratch.of_adapters(batch.drops).backward();
        self.b.multiply_backward_input(device, dy, dh, rows, false);
        self.scale(device, dh, rows);
        match dropped {
            Some(ddropped) => {
                self.a.multiply_backward_input(device, dh, ddropped, rows, false);
                self.leave_out(device, batch, &tokens, ddropped, dx, true);
            }
            None => self.a.multiply_backward_input(device, dh, dx, rows, true),
        }
    }

    /// `dA += dh^T d(x)` with the `dh` that [`Lora::backward_input`] has just left in the scratch, then `dB += dy^T h`; `h` is
    /// computed again in its place, which is cheaper than to keep it.
    pub fn backward_weight(&mut self, pass: &mut Pass, x: &Tensor, dy: &Tensor) {
        let Pass { device, batch, .. } = *pass;
        let (tokens, rows) = (pass.rows.clone(), pass.rows.len());
        let AdapterBackwardScratch { dh, dropped, partial } = pass.scratch.of_adapters(batch.drops).backward();
        let x = match dropped {
            Some(dropped) => {
                self.leave_out(device, batch, &tokens, x, dropped, false);
                &*dropped
            }
            None => x,
        };
        self.a.multiply_backward_weight(device, x, dh, rows, partial);
        let h = dh;
        self.project(device, x, h, rows);
        self.b.multiply_backward_weight(device, h, dy, rows, partial);
    }

    /// `y = d(x)`, or `y += d(x)`, of these tokens of the batch. d is its own transpose.
    fn leave_out(
        &self,
        device: &Device,
        batch: &DeviceBatch,
        tokens: &Range<usize>,
        x: &Tensor,
        y: &mut Tensor,
        accumulate: bool,
    ) {
        let Chance { threshold, scale } = self.dropout;
        let (rows, cols, accumulate) = (tokens.len() as u32, self.a.stride() as u32, accumulate.into());
        device.run(Dropout {
            keys: &batch.dropout_keys,
            x,
            y,
            rows,
            cols,
            first_key: tokens.start as u32,
            site: self.site,
            threshold,
            scale,
            accumulate,
        });
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
