//! The residual stream: what each block reads, through a norm, and adds to.

use anyhow::Result;

use super::build::Build;
use super::keep::Keep;
use super::norm::{Norm, NormActivations};
use super::pass::Pass;
use crate::device::Tensor;

/// The residual stream before each norm: two norms a layer, which are sites `2 layer` and `2 layer + 1`, and the last one.
pub struct Stream {
    /// `[tokens, hidden]` each.
    tensors: Vec<Tensor>,
    keep: Keep,
}

impl Stream {
    /// Room for `tokens`.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(build: &Build, tokens: usize, keep: Keep) -> Result<Self> {
        let layers = build.config.num_hidden_layers;
        let count = match keep {
            Keep::Nothing => 2,
            Keep::LayerInputs => layers + 2,
            Keep::Everything => 2 * layers + 1,
        };
        let tensor = |place| build.activation(&format!("stream/{place}"), &[tokens, build.config.hidden_size]);
        Ok(Self { tensors: (0..count).map(tensor).collect::<Result<_>>()?, keep })
    }

    /// The tensor of a site. Those that are not kept take turns.
    fn place(&self, site: usize) -> usize {
        match self.keep {
            Keep::Nothing => site % 2,
            Keep::LayerInputs if site.is_multiple_of(2) => site / 2,
            Keep::LayerInputs => self.tensors.len() - 1,
            Keep::Everything => site,
        }
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
    pub fn norm(&mut self, pass: &Pass, site: usize, norm: &Norm, delta: &Tensor, saved: &mut NormActivations) {
        if site == 0 {
            return norm.forward(pass, &self.tensors[0], &mut saved.y, &mut saved.rstd);
        }
        let [x, h] = self.neighbours(site - 1);
        norm.forward_after_add(pass, x, Some(delta), h, saved);
    }

    /// Norm `site` once more, of a site that is kept: by the kernel of the forward pass, as another might round otherwise.
    pub fn norm_again(&mut self, pass: &Pass, site: usize, norm: &Norm, saved: &mut NormActivations) {
        if site == 0 {
            return norm.forward(pass, &self.tensors[0], &mut saved.y, &mut saved.rstd);
        }
        let [x, h] = self.neighbours(site);
        norm.forward_after_add(pass, x, None, h, saved);
    }

    /// The stream at `site` and at the one after it.
    fn neighbours(&mut self, site: usize) -> [&mut Tensor; 2] {
        let places = [self.place(site), self.place(site + 1)];
        self.tensors.get_disjoint_mut(places).unwrap_or_else(|_| unreachable!("neighbours differ"))
    }
}
