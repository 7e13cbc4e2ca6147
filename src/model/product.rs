//! The products of a weight matrix W `[out, in]`, shard by shard: with activations, with their gradients, and for its own.

use super::parameter::Parameter;
use crate::device::{Device, Tensor};
use crate::kernels::{
    Activation, GatedWeights, GroupedGradient, GroupedLinear, GroupedLinearBackwardInput, GroupedOutput, Layout,
    Matmul, NormScale, Operand, OperandMut, Product, RmsNormGatedLinear, RmsNormLinear, suits_norm_rows,
};

/// Rows of activations are as long as the matrix is when it is filled up.
impl Parameter {
    /// `y = x W^T`, or `y += x W^T`, for `rows` rows.
    pub(super) fn multiply(&self, device: &Device, x: &Tensor, y: &mut Tensor, rows: usize, accumulate: bool) {
        let (outputs, inputs) = (self.rows().next_multiple_of(4), self.stride());
        for shard in self.shards() {
            let product = Product {
                layout: Layout::Nt,
                rows,
                cols: shard.rows.next_multiple_of(4),
                inner: inputs,
                a: Operand::whole(x, inputs),
                b: Operand::whole(&shard.weight, inputs),
                c: OperandMut::whole(y, outputs).from_column(shard.first_row),
                accumulate,
            };
            Matmul::run(device, product);
        }
    }

    /// `dx = dy W`, or `dx += dy W`, for `rows` rows.
    pub(super) fn multiply_backward_input(
        &self,
        device: &Device,
        dy: &Tensor,
        dx: &mut Tensor,
        rows: usize,
        accumulate: bool,
    ) {
        let (outputs, inputs) = (self.rows().next_multiple_of(4), self.stride());
        for shard in self.shards() {
            let product = Product {
                layout: Layout::Nn,
                rows,
                cols: inputs,
                inner: shard.rows.next_multiple_of(4),
                a: Operand::whole(dy, outputs).from_column(shard.first_row),
                b: Operand::whole(&shard.weight, inputs),
                c: OperandMut::whole(dx, inputs),
                accumulate: accumulate || shard.first_row > 0,
            };
            Matmul::run(device, product);
        }
    }

    /// `dW += dy^T x` of `rows` rows, where it is trained. `partial` is scratch of any size.
    pub(super) fn multiply_backward_weight(
        &mut self,
        device: &Device,
        x: &Tensor,
        dy: &Tensor,
        rows: usize,
        partial: &mut Tensor,
    ) {
        let (outputs, inputs) = (self.rows().next_multiple_of(4), self.stride());
        for shard in self.shards_mut() {
            if let Some(gradient) = &mut shard.gradient {
                let product = Product {
                    layout: Layout::Tn,
                    rows: shard.rows.next_multiple_of(4),
                    cols: inputs,
                    inner: rows,
                    a: Operand::whole(dy, outputs).from_column(shard.first_row),
                    b: Operand::whole(x, inputs),
                    c: OperandMut::whole(gradient, inputs),
                    accumulate: true,
                };
                Matmul::run_split(device, product, partial);
            }
        }
    }
}

/// A matrix of a group that reads the same x, and what becomes of it.
pub(super) struct GroupOutput<'a> {
    pub weight: &'a Parameter,
    pub y: &'a mut Tensor,
}

/// `y = x W^T` of up to three matrices, for `rows` rows: one product, where they are one group. `nothing` stands in for those that
/// are not there.
pub(super) fn multiply_group(
    device: &Device,
    outputs: Vec<GroupOutput>,
    x: &Tensor,
    rows: usize,
    nothing: &mut Tensor,
) {
    let Some(first) = first_of_group(outputs.iter().map(|output| output.weight)) else {
        for GroupOutput { weight, y } in outputs {
            weight.multiply(device, x, y, rows, false);
        }
        return;
    };
    GroupedLinear::run(device, x, whole_outputs(outputs, first, nothing), rows, first.stride());
}

/// As [`multiply_group`] of `norm(x)`, of matrices that [`group_suits_norm`].
pub(super) fn multiply_group_normed(
    device: &Device,
    scale: NormScale,
    outputs: Vec<GroupOutput>,
    x: &Tensor,
    rows: usize,
    nothing: &mut Tensor,
) {
    let first = outputs[0].weight;
    RmsNormLinear::run(device, x, scale, whole_outputs(outputs, first, nothing), rows, first.stride());
}

/// Whether the product of `rows` rows by these matrices normalises what it reads: they are one group, and the device has a kernel
/// for it.
pub(super) fn group_suits_norm<const N: usize>(device: &Device, weights: [&Parameter; N], rows: usize) -> bool {
    let cols = weights.iter().map(|weight| filled_rows(weight)).sum();
    first_of_group(weights.into_iter()).is_some() && suits_norm_rows(device, rows, cols)
}

/// The outputs of a group of which no matrix is cut.
fn whole_outputs<'a>(
    outputs: Vec<GroupOutput<'a>>,
    first: &'a Parameter,
    nothing: &'a mut Tensor,
) -> [GroupedOutput<'a>; 3] {
    let whole = |GroupOutput { weight, y }| GroupedOutput { w: weight.vector(), y, cols: filled_rows(weight) };
    in_threes(outputs.into_iter().map(whole), [GroupedOutput { w: first.vector(), y: nothing, cols: 0 }])
}

/// `act = f(norm(x) W_gate^T) (norm(x) W_up^T)` of `rows` rows, of matrices that [`group_suits_norm`].
pub(super) fn multiply_gated_normed(
    device: &Device,
    scale: NormScale,
    [gate, up]: [&Parameter; 2],
    activation: Activation,
    x: &Tensor,
    act: &mut Tensor,
    rows: usize,
) {
    let weights = GatedWeights { gate: gate.vector(), up: up.vector(), cols: filled_rows(gate) };
    RmsNormGatedLinear::run(device, x, scale, weights, activation, act, [rows, gate.stride()]);
}

/// A matrix of a group that reads the same x, and the gradient of what became of it.
pub(super) struct GroupGradient<'a> {
    pub weight: &'a Parameter,
    pub dy: &'a Tensor,
}

/// `dx = sum of dy W` of up to three matrices, for `rows` rows: one product, where they are one group.
pub(super) fn multiply_group_backward_input(
    device: &Device,
    gradients: Vec<GroupGradient>,
    dx: &mut Tensor,
    rows: usize,
) {
    let Some(first) = first_of_group(gradients.iter().map(|gradient| gradient.weight)) else {
        for (index, GroupGradient { weight, dy }) in gradients.into_iter().enumerate() {
            weight.multiply_backward_input(device, dy, dx, rows, index > 0);
        }
        return;
    };
    let absent = GroupedGradient { w: first.vector(), dy: gradients[0].dy, inner: 0 };
    let whole = |GroupGradient { weight, dy }| GroupedGradient { w: weight.vector(), dy, inner: filled_rows(weight) };
    let gradients = in_threes(gradients.into_iter().map(whole), [absent]);
    GroupedLinearBackwardInput::run(device, gradients, dx, rows, first.stride());
}

/// Rows of a matrix as activations have them.
fn filled_rows(weight: &Parameter) -> usize {
    weight.rows().next_multiple_of(4)
}

/// The first of several matrices, where none of them is cut and all are stored alike.
fn first_of_group<'a>(mut weights: impl ExactSizeIterator<Item = &'a Parameter>) -> Option<&'a Parameter> {
    let is_group = weights.len() > 1;
    let first = weights.next()?;
    let dtype = first.vector().dtype();
    let is_whole = |weight: &Parameter| weight.shards().len() == 1 && weight.vector().dtype() == dtype;
    (is_group && is_whole(first) && weights.all(is_whole)).then_some(first)
}

/// Up to three parts, filled up with as many absent ones as it takes.
pub(super) fn in_threes<T>(parts: impl IntoIterator<Item = T>, absent: impl IntoIterator<Item = T>) -> [T; 3] {
    let mut parts = parts.into_iter().chain(absent);
    std::array::from_fn(|_| parts.next().expect("three parts"))
}
