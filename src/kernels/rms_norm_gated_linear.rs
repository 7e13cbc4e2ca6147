//! The first half of a gated MLP of few rows, with the RMSNorm before it, as one product on a GPU: decoding.

use super::gated_mlp::{Activation, gate};
use super::matmul::{Layout, parallel_product};
use super::products::Stored;
use super::rms_norm_linear::{NormScale, normalised};
use super::tiles::{ROWS_COLS, ROWS_TEXTS, Tile, TileText, by_norm_rows, cost};
use crate::device::{Device, Kernel, Matrix, MatrixMut, Real, Tensor, kernel, reaches, word};
use crate::gpu::{Launch, Traits, Variant};

static VARIANTS: [Variant; ROWS_TEXTS] = by_norm_rows(concat!(
    include_str!("../../shaders/rms_norm_gated_linear.wgsl"),
    include_str!("../../shaders/shared/gate.wgsl"),
));

/// `COLS` of the shader: half of a workgroup's columns are the gate's.
const COLS: u32 = ROWS_COLS / 2;

/// The two matrices that read the same input, each `[cols, inner]`.
#[derive(Clone, Copy)]
pub struct GatedWeights<'a> {
    pub gate: &'a Tensor,
    pub up: &'a Tensor,
    pub cols: usize,
}

kernel! {
    /// `act = f(n gate^T) (n up^T)`, `n = x / sqrt(mean(x^2) + epsilon) * (offset + norm)`, `f` SiLU or tanh-GELU, of few rows. Sizes
    /// but the rows' are multiples of 4.
    pub struct RmsNormGatedLinear in "rms_norm_gated_linear" of VARIANTS {
        /// `[rows, inner]`
        read x,
        /// `[inner]`
        read norm,
        /// `[cols, inner]`, f32, bf16 or in blocks, as both.
        read gate,
        /// `[cols, inner]`
        read up,
        /// `[rows, cols]`
        write act,
        ;
        first_row: u32,
        rows: u32,
        inner: u32,
        cols: u32,
        /// [`Activation::index`]
        activation: u32,
        epsilon: f32,
        offset: f32,
    }
}

impl RmsNormGatedLinear<'_> {
    /// `act`, `[rows, cols]`, of `rows` rows of `inner` values, in as many dispatches as it needs.
    pub fn run(
        device: &Device,
        x: &Tensor,
        scale: NormScale,
        weights: GatedWeights,
        activation: Activation,
        act: &mut Tensor,
        [rows, inner]: [usize; 2],
    ) {
        let GatedWeights { gate, up, cols } = weights;
        for rows in Tile::of(rows, cols).dispatches(device, rows, 2 * cols, inner) {
            device.run(RmsNormGatedLinear {
                x,
                norm: scale.weight,
                gate,
                up,
                act: &mut *act,
                first_row: word(rows.start),
                rows: word(rows.len()),
                inner: word(inner),
                cols: word(cols),
                activation: activation.index(),
                epsilon: scale.epsilon,
                offset: scale.offset,
            });
        }
    }
}

impl Kernel for RmsNormGatedLinear<'_> {
    fn check(&self) {
        let end = (self.first_row + self.rows) as usize;
        let [inner, cols] = [self.inner, self.cols].map(|n| n as usize);
        let in_fours = cols.is_multiple_of(4) && inner.is_multiple_of(4);
        assert!(in_fours, "rms_norm_gated_linear: {} is not in fours", self.gate.name());
        assert!(self.up.dtype() == self.gate.dtype(), "rms_norm_gated_linear: {} is stored otherwise", self.up.name());
        reaches::<Self>(self.x, end * inner);
        reaches::<Self>(self.norm, inner);
        reaches::<Self>(self.gate, cols * inner);
        reaches::<Self>(self.up, cols * inner);
        reaches::<Self>(self.act, end * cols);
    }

    fn launch(&self, _: Traits) -> Launch {
        let text = TileText::of_rows(&VARIANTS, self.gate.dtype(), self.rows, COLS);
        let cost = cost(self.rows as usize, 2 * self.cols as usize, self.inner as usize);
        text.launch(self.rows, &[self.cols], 1, Vec::new(), cost)
    }

    fn twin<T: Real>(&mut self) {
        let [first_row, rows, inner, cols] = [self.first_row, self.rows, self.inner, self.cols].map(|n| n as usize);
        let scale = NormScale { weight: self.norm, epsilon: self.epsilon, offset: self.offset };
        let n = normalised::<T>(self.x, scale, first_row, rows, inner);
        let multiply = |w, data: &mut [T]| {
            let (x, y) = (
                Matrix { data: &n, row_stride: inner, col_stride: 1 },
                MatrixMut { data, rows, cols, row_stride: cols },
            );
            parallel_product(Layout::Nt, y, x, Stored { tensor: w, offset: 0, stride: inner }, inner, false, None);
        };
        let mut up = vec![T::zero(); rows * cols];
        multiply(self.up, &mut up);
        let act = &mut self.act.real_mut::<T>()[first_row * cols..][..rows * cols];
        multiply(self.gate, act);
        for (act, up) in act.iter_mut().zip(up) {
            *act = gate(*act, self.activation).0 * up;
        }
    }
}
