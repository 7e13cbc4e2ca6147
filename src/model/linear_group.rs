//! Linear layers that read the same input: queries, keys and values; gate and up. Their products are one.

use super::linear::Linear;
use super::lora::Lora;
use super::norm::{Norm, NormActivations};
use super::parameter::Parameter;
use super::pass::Pass;
use super::product::{
    GroupGradient, GroupOutput, group_suits_norm, multiply_group, multiply_group_backward_input, multiply_group_normed,
};
use crate::device::Tensor;

/// Two or three layers from the same `[tokens, in]`.
pub struct LinearGroup<const N: usize>([Linear; N]);

impl<const N: usize> LinearGroup<N> {
    /// The group of these layers.
    pub fn new(layers: [Linear; N]) -> Self {
        Self(layers)
    }

    /// The layers.
    pub(super) fn layers(&self) -> &[Linear; N] {
        &self.0
    }

    /// `y = x W^T + b`, and what the adapters add, of each layer: from `[tokens, in]` to `[tokens, out]`.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor, mut ys: [&mut Tensor; N]) {
        let (device, rows) = (pass.device, pass.rows.len());
        multiply_group(device, self.outputs(&mut ys), x, rows, pass.scratch.nothing());
        Linear::add_biases(self.0.each_ref(), pass, &mut ys);
        let adapters = self.0.each_ref().map(Linear::lora);
        Lora::forward_group(adapters, pass, x, ys);
    }

    /// As [`LinearGroup::forward`] of `norm(x)`: one product, where that is the faster way. `normed` is scratch.
    pub fn forward_normed(
        &self,
        pass: &mut Pass,
        norm: &Norm,
        x: &Tensor,
        normed: &mut NormActivations,
        mut ys: [&mut Tensor; N],
    ) {
        let (device, rows) = (pass.device, pass.rows.len());
        let adapted = self.0.iter().any(|layer| layer.lora().is_some());
        if adapted || !group_suits_norm(device, self.0.each_ref().map(Linear::weight), rows) {
            norm.forward(pass, x, &mut normed.y, &mut normed.rstd);
            return self.forward(pass, &normed.y, ys);
        }
        multiply_group_normed(device, norm.scale(), self.outputs(&mut ys), x, rows, pass.scratch.nothing());
        Linear::add_biases(self.0.each_ref(), pass, &mut ys);
    }

    fn outputs<'a>(&'a self, ys: &'a mut [&mut Tensor; N]) -> Vec<GroupOutput<'a>> {
        self.0.iter().zip(ys).map(|(layer, y)| GroupOutput { weight: layer.weight(), y }).collect()
    }

    /// `dx = sum of dy W` and what comes back through the adapters; the weights', biases' and adapters' gradients, where they are
    /// trained.
    pub fn backward(&mut self, pass: &mut Pass, x: &Tensor, dys: [&Tensor; N], dx: &mut Tensor) {
        let (device, rows) = (pass.device, pass.rows.len());
        let gradients = self.0.iter().zip(dys).map(|(layer, dy)| GroupGradient { weight: layer.weight(), dy });
        multiply_group_backward_input(device, gradients.collect(), dx, rows);
        for (layer, dy) in self.0.iter_mut().zip(dys) {
            layer.backward_adapters_input(pass, dy, dx).finish(x);
        }
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.0.iter_mut().flat_map(Linear::parameters_mut)
    }
}
