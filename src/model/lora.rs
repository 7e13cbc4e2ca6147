//! Low-rank adapters (LoRA): beside a frozen `y = x W^T` two small matrices that are trained, `y += s (x A^T) B^T`.

use anyhow::Result;

use super::Build;
use super::parameter::Parameter;
use crate::device::{Device, Tensor};
use crate::kernels::Scale;

/// The adapters of one linear layer. The filled-up rows of A and columns of B are zeros, and so are their gradients:
/// any `r` computes as the next multiple of 4 does.
pub struct Lora {
    /// A `[r, in]`
    pub a: Parameter,
    /// B `[out, r]`
    pub b: Parameter,
    /// s
    pub scaling: f32,
}

/// `[tokens, r]`: the scratch of all adapters' passes; none where there are no adapters.
pub struct LowRank(Option<Tensor>);

impl LowRank {
    pub(super) fn new(build: &Build, tokens: usize) -> Result<Self> {
        let tensor = |r: usize| build.scratch("low_rank", &[tokens, r.next_multiple_of(4)]);
        Ok(Self(build.low_rank().map(tensor).transpose()?))
    }

    fn tensor(&mut self) -> &mut Tensor {
        self.0.as_mut().expect("the scratch of a network with adapters")
    }
}

impl Lora {
    /// `y += h B^T` with `h = s x A^T`.
    pub fn forward(&self, device: &Device, x: &Tensor, y: &mut Tensor, low_rank: &mut LowRank, rows: usize) {
        let h = low_rank.tensor();
        self.a.multiply(device, x, h, rows, false);
        self.scale(device, h, rows);
        self.b.multiply(device, h, y, rows, true);
    }

    /// `dx += dh A` with `dh = s dy B`.
    pub fn backward_input(&self, device: &Device, dy: &Tensor, dx: &mut Tensor, low_rank: &mut LowRank, rows: usize) {
        let dh = low_rank.tensor();
        self.b.multiply_backward_input(device, dy, dh, rows, false);
        self.scale(device, dh, rows);
        self.a.multiply_backward_input(device, dh, dx, rows, true);
    }

    /// `dB += dy^T h`, `dA += dh^T x`; `h` and `dh` are computed again, which is cheaper than to keep them.
    pub fn backward_weight(&mut self, device: &Device, x: &Tensor, dy: &Tensor, low_rank: &mut LowRank, rows: usize) {
        if !self.a.is_trained() {
            return;
        }
        let h = low_rank.tensor();
        self.a.multiply(device, x, h, rows, false);
        self.scale(device, h, rows);
        self.b.multiply_backward_weight(device, h, dy, rows);
        let dh = h;
        self.b.multiply_backward_input(device, dy, dh, rows, false);
        self.scale(device, dh, rows);
        self.a.multiply_backward_weight(device, x, dh, rows);
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
