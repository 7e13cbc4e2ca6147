//! The residual stream: what each block reads, through a norm, and adds to.

use anyhow::Result;

use super::build::Build;
use super::keep::{ActivationType, Keep};
use super::norm::{Norm, NormOutput};
use super::pass::Pass;
use crate::device::{DType, Tensor};

/// The residual stream before each norm: two norms a layer, which are sites `2 layer` and `2 layer + 1`, and the last one.
pub struct Stream {
    /// `[tokens, hidden]` each.
    tensors: Vec<Tensor>,
    /// Where what is kept is rounded: the sites that the backward pass begins with, but for the last, which is left as it is.
    rounded: Vec<Tensor>,
    keep: Keep,
}

impl Stream {
    /// Room for `tokens`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, tokens: usize, keep: Keep) -> Result<Self> {
        let layers = build.config.num_hidden_layers;
        let (count, rounded) = match keep {
            Keep::Nothing => (2, 0),
            Keep::LayerInputs(ActivationType::F32) => (layers + 2, 0),
            Keep::LayerInputs(ActivationType::Bf16) => (2, layers),
            Keep::Everything(ActivationType::F32) => (2 * layers + 1, 0),
            Keep::Everything(ActivationType::Bf16) => (2, 2 * layers),
        };
        let tensors = |name: &str, count, dtype| -> Result<Vec<Tensor>> {
            let name = |place| format!("{}/activations/{name}/{place}", build.model);
            (0..count).map(|place| build.kept(&name(place), &[tokens, build.config.hidden_size], dtype)).collect()
        };
        let rounded = tensors("rounded_stream", rounded, DType::Bf16)?;
        Ok(Self { tensors: tensors("stream", count, DType::Real)?, rounded, keep })
    }

    /// The tensor of a site. Those that are not kept take turns.
    fn place(&self, site: usize) -> usize {
        match self.keep {
            Keep::LayerInputs(ActivationType::F32) if site.is_multiple_of(2) => site / 2,
            Keep::LayerInputs(ActivationType::F32) => self.tensors.len() - 1,
            Keep::Everything(ActivationType::F32) => site,
            _ => site % 2,
        }
    }

    /// The place of a site among those that are rounded, where it is.
    fn rounded_place(&self, site: usize) -> Option<usize> {
        let place = match self.keep {
            Keep::LayerInputs(_) => site.is_multiple_of(2).then_some(site / 2),
            _ => Some(site),
        };
        place.filter(|place| *place < self.rounded.len())
    }

    /// The stream before the first norm, `[tokens, hidden]`: the embedded tokens.
    pub fn first(&mut self) -> &mut Tensor {
        &mut self.tensors[0]
    }

    /// The stream before norm `site`, `[tokens, hidden]`, as the forward pass kept it or computed it again.
    ///
    /// # Panics
    /// Where it was made for a forward pass alone.
    pub fn at(&self, site: usize) -> &Tensor {
        assert_ne!(self.keep, Keep::Nothing, "a stream for a forward pass alone");
        &self.tensors[self.place(site)]
    }

    /// Norm `site` of the stream, after `delta` was added to it (the first has nothing to add).
    pub fn norm(&mut self, pass: &Pass, site: usize, norm: &Norm, delta: &Tensor, output: NormOutput) {
        if site == 0 {
            norm.forward(pass, &self.tensors[0], output.y, output.rstd);
        } else {
            let [x, h] = self.neighbours(site - 1);
            norm.forward_after_add(pass, x, Some(delta), h, output);
        }
        if let Some(rounded) = self.rounded_place(site) {
            pass.round(&self.tensors[self.place(site)], &mut self.rounded[rounded]);
        }
    }

    /// Norm `site` once more, of a site that is kept: by the kernel of the forward pass, as another might round otherwise.
    pub fn norm_again(&mut self, pass: &Pass, site: usize, norm: &Norm, output: NormOutput) {
        self.restore(pass, site);
        if site == 0 {
            return norm.forward(pass, &self.tensors[0], output.y, output.rstd);
        }
        let [x, h] = self.neighbours(site);
        norm.forward_after_add(pass, x, None, h, output);
    }

    /// Brings back what was kept of a site, where it was rounded.
    pub fn restore(&mut self, pass: &Pass, site: usize) {
        if let Some(rounded) = self.rounded_place(site) {
            let place = self.place(site);
            pass.widen(&self.rounded[rounded], &mut self.tensors[place]);
        }
    }

    /// The stream at `site` and at the one after it.
    fn neighbours(&mut self, site: usize) -> [&mut Tensor; 2] {
        let places = [self.place(site), self.place(site + 1)];
        self.tensors.get_disjoint_mut(places).unwrap_or_else(|_| unreachable!("neighbours differ"))
    }
}
