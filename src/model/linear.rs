//! A linear layer: `y = x W^T + b`, and what low-rank adapters add to it where it has them.

use anyhow::Result;

use super::build::Build;
use super::lora::Lora;
use super::parameter::Parameter;
use super::pass::Pass;
use super::product::in_threes;
use crate::device::Tensor;
use crate::kernels::{AddBias, Biased, ColumnSum};

/// `[out, in]` weights and, in some layers, a bias and adapters.
pub struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
    lora: Option<Lora>,
}

/// The second half of a layer's backward pass, which needs the layer's input. Until then it holds the pass, so that nothing
/// else can work in the scratch, where the adapters' `dh` waits.
#[must_use = "the weights get their gradients from `finish`"]
pub struct BackwardWeight<'a, 'pass> {
    linear: &'a mut Linear,
    pass: &'a mut Pass<'pass>,
    dy: &'a Tensor,
}

impl Linear {
    /// The layer with this name's `.weight` and `.bias`.
    ///
    /// # Errors
    /// Where a tensor is missing or has no room.
    pub fn load(build: &Build, name: &str, [outputs, inputs]: [usize; 2], has_bias: bool) -> Result<Self> {
        let weight = build.linear(&format!("{name}.weight"), [outputs, inputs])?;
        let bias = if has_bias { Some(build.parameter(&format!("{name}.bias"), &[outputs])?) } else { None };
        Ok(Self { weight, bias, lora: Lora::load(build, name, [outputs, inputs])? })
    }

    /// W `[out, in]`
    pub(super) fn weight(&self) -> &Parameter {
        &self.weight
    }

    /// The adapters, where it has them.
    pub(super) fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    /// Whether it is its matrix alone, without bias or adapters.
    pub(super) fn is_bare(&self) -> bool {
        self.bias.is_none() && self.lora.is_none()
    }

    /// `y = x W^T + b`, and what the adapters add, or `y += ...`: from `[tokens, in]` to `[tokens, out]`.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor, y: &mut Tensor, accumulate: bool) {
        self.weight.multiply(pass.device, x, y, pass.rows.len(), accumulate);
        Self::add_biases([self], pass, &mut [y]);
        Lora::forward_group([self.lora()], pass, x, [y]);
    }

    /// `y += b` of up to three layers: of those that have one.
    pub(super) fn add_biases<'a, const N: usize>(
        layers: [&'a Self; N],
        pass: &'a mut Pass,
        ys: &'a mut [&mut Tensor; N],
    ) {
        let biased = |(layer, y): (&'a Self, &'a mut &mut Tensor)| {
            Some(Biased { bias: layer.bias.as_ref()?.vector(), y, cols: layer.weight.rows() })
        };
        let parts: Vec<Biased> = layers.into_iter().zip(ys).filter_map(biased).collect();
        let Some(first) = parts.first() else { return };
        let bias = first.bias;
        let absent = pass.scratch.nothings().into_iter().map(|y| Biased { bias, y, cols: 0 });
        AddBias::run(pass.device, in_threes(parts, absent), pass.rows.len());
    }

    /// `dx = dy W` and what comes back through the adapters; `dW += dy^T x`, `db += sum of dy` and the adapters' gradients,
    /// where they are trained. From `[tokens, out]` to `[tokens, in]`.
    pub fn backward(&mut self, pass: &mut Pass, x: &Tensor, dy: &Tensor, dx: &mut Tensor) {
        self.backward_input(pass, dy, dx).finish(x);
    }

    /// `dx` as of [`Linear::backward`], where it has to be known before the layer's input is.
    pub fn backward_input<'a, 'pass>(
        &'a mut self,
        pass: &'a mut Pass<'pass>,
        dy: &'a Tensor,
        dx: &mut Tensor,
    ) -> BackwardWeight<'a, 'pass> {
        self.weight.multiply_backward_input(pass.device, dy, dx, pass.rows.len(), false);
        self.backward_adapters_input(pass, dy, dx)
    }

    /// The part of [`Linear::backward_input`] that comes back through the adapters: it is added to `dx`.
    pub(super) fn backward_adapters_input<'a, 'pass>(
        &'a mut self,
        pass: &'a mut Pass<'pass>,
        dy: &'a Tensor,
        dx: &mut Tensor,
    ) -> BackwardWeight<'a, 'pass> {
        if let Some(lora) = &self.lora {
            lora.backward_input(pass, dy, dx);
        }
        BackwardWeight { linear: self, pass, dy }
    }

    /// All weights, in order.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let lora = self.lora.iter_mut().flat_map(Lora::parameters_mut);
        std::iter::once(&mut self.weight).chain(&mut self.bias).chain(lora)
    }
}

impl BackwardWeight<'_, '_> {
    /// `dW += dy^T x`, `db += sum of dy`, and the adapters' gradients, where they are trained; `x` is `[tokens, in]`.
    pub fn finish(self, x: &Tensor) {
        let Self { linear: Linear { weight, bias, lora }, pass, dy } = self;
        let (device, rows) = (pass.device, pass.rows.len());
        weight.multiply_backward_weight(device, x, dy, rows, pass.scratch.partial());
        if let Some(gradient) = bias.as_mut().and_then(Parameter::vector_gradient) {
            ColumnSum::in_two_steps(device, dy, pass.scratch.partial(), gradient, rows, weight.rows());
        }
        if let Some(lora) = lora {
            lora.backward_weight(pass, x, dy);
        }
    }
}
