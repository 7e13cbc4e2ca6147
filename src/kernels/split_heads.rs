//! Heads of queries, keys, values and gradients as matrix units take operands of attention.

use half::f16;
use rayon::prelude::*;

use super::halves::{Parts, exponent_of, power};
use super::operand::Operand;
use super::variants::only;
use super::{Lines, MaxMagnitude};
use crate::device::{Device, Kernel, MatmulPrecision, Matrix, Real, Tensor, kernel, reaches, word};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 1] = only(include_str!("../../shaders/split_heads.wgsl"), &[]);

kernel! {
    /// `x[i, h, :] ~ 2^-e(h) (high + low)[h, i, :]`, both f16, where `e(h)` brings the largest of a head to 2^14 or above; head by head,
    /// by tokens and by columns. Without `low` where `parts` is 1.
    pub struct SplitHeads in "split_heads" of VARIANTS {
        /// `[tokens, heads, head_dim]`
        read x,
        /// `[heads, head_dim]`: the largest magnitudes of columns, as the bits of an f32.
        read magnitudes,
        /// As [`Split::words`] says.
        write halves,
        ;
        tokens: u32,
        heads: u32,
        parts: u32,
        ;
        /// Values a head.
        head_dim: u32,
    }
}

/// What is split: a tensor `[tokens, heads, head_dim]`.
#[derive(Clone, Copy)]
pub struct Split {
    pub tokens: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub precision: MatmulPrecision,
}

/// `EXPONENTS` of the shader: the most heads, and where their values begin.
pub const MAX_SPLIT_HEADS: usize = 256;

/// `SIDE` of the shader: tokens and columns of a workgroup.
const SIDE: usize = 32;

impl Split {
    /// Tokens that there is room for: whole tiles of every text.
    fn padded(self) -> usize {
        self.tokens.next_multiple_of(64)
    }

    /// Columns of a head that there is room for: whole matrices of every size.
    fn cols(self) -> usize {
        self.head_dim.next_multiple_of(16)
    }

    /// f16s that a value becomes.
    fn parts(self) -> usize {
        match self.precision {
            MatmulPrecision::Highest => 0,
            MatmulPrecision::High => 2,
            MatmulPrecision::Medium => 1,
        }
    }

    /// Values of a part.
    fn part_len(self) -> usize {
        self.heads * self.padded() * self.cols()
    }

    /// Elements of a tensor that holds it: as it is, or in parts.
    pub fn elements(self) -> usize {
        if self.precision == MatmulPrecision::Highest { self.tokens * self.heads * self.head_dim } else { self.words() }
    }

    /// The words that it takes: pairs of f16. First an exponent for each head, as a number; then `[parts, heads, padded, cols]`; then
    /// `[parts, heads, padded / 32, cols, 32]`, the columns of 32 tokens at a time.
    pub fn words(self) -> usize {
        (MAX_SPLIT_HEADS + 2 * self.parts() * self.part_len()) / 2
    }

    fn cost(self) -> Cost {
        let values = (self.tokens * self.heads * self.head_dim) as f64;
        Cost { flops: 0.0, bytes: values * (4 + 4 * self.parts()) as f64 }
    }
}

impl SplitHeads<'_> {
    /// Splits a tensor.
    pub fn run(device: &Device, split: Split, x: &Tensor, halves: &mut Tensor) {
        device.with_magnitudes(|magnitudes| Self::run_with(device, split, x, magnitudes, halves));
    }

    /// As [`SplitHeads::run`], with one's own room for the largest magnitudes of columns.
    pub fn run_with(device: &Device, split: Split, x: &Tensor, magnitudes: &mut Tensor, halves: &mut Tensor) {
        let Split { tokens, heads, head_dim, .. } = split;
        let cols = heads * head_dim;
        let lines = Lines { matrix: Operand::whole(x, cols), rows: tokens, cols, by_column: true };
        MaxMagnitude::run(device, lines, magnitudes, 0, false);
        device.run(SplitHeads {
            x,
            magnitudes,
            halves,
            tokens: word(tokens),
            heads: word(heads),
            parts: word(split.parts()),
            head_dim: word(head_dim),
        });
    }

    fn split(&self) -> Split {
        let precision = if self.parts == 2 { MatmulPrecision::High } else { MatmulPrecision::Medium };
        let [tokens, heads, head_dim] = [self.tokens, self.heads, self.head_dim].map(|size| size as usize);
        Split { tokens, heads, head_dim, precision }
    }
}

impl Kernel for SplitHeads<'_> {
    fn check(&self) {
        let split = self.split();
        assert!(split.heads <= MAX_SPLIT_HEADS, "split_heads: {} heads", split.heads);
        assert!(matches!(self.parts, 1 | 2), "split_heads: {} parts", self.parts);
        assert!(split.head_dim.is_multiple_of(4), "split_heads: head_dim {}", split.head_dim);
        reaches::<Self>(self.x, split.tokens * split.heads * split.head_dim);
        reaches::<Self>(self.magnitudes, split.heads * split.head_dim);
        reaches::<Self>(self.halves, split.words());
    }

    fn launch(&self, _: Traits) -> Launch {
        let split = self.split();
        Launch {
            variant: &VARIANTS[0],
            constants: vec![("HEAD_DIM", f64::from(self.head_dim))],
            workgroups: [split.padded() / SIDE, split.heads, split.cols().div_ceil(SIDE)].map(word),
            cost: split.cost(),
        }
    }

    fn twin<T: Real>(&mut self) {
        let split = self.split();
        let Split { tokens, heads, head_dim, .. } = split;
        let (padded, cols, len) = (split.padded(), split.cols(), split.part_len());
        let magnitudes = &self.magnitudes.u32s()[..heads * head_dim];
        let largest: Vec<u32> = magnitudes.chunks(head_dim).map(|of| of.iter().copied().max().unwrap_or(0)).collect();
        let x = self.x.real::<T>();
        let halves: &mut [f16] = bytemuck::cast_slice_mut(&mut self.halves.u32s_mut()[..split.words()]);
        let (exponents, values) = halves.split_at_mut(MAX_SPLIT_HEADS);
        for (head, exponent) in exponents.iter_mut().take(heads.next_multiple_of(2)).enumerate() {
            *exponent = f16::from_f32(exponent_of(largest[head.min(heads - 1)]) as f32);
        }
        let part_of = |head: usize, token: usize, col: usize, part: usize| {
            if token >= tokens || col >= head_dim {
                return f16::ZERO;
            }
            let x = T::of(power(exponent_of(largest[head]))) * x[(token * heads + head) * head_dim + col];
            let high = x.to_nearest_f16();
            f16::from_f64(if part == 0 { high } else { (x - high).to_nearest_f16() }.wide())
        };
        let (by_token, by_col) = values.split_at_mut(split.parts() * len);
        by_token.par_chunks_mut(padded * cols).enumerate().for_each(|(place, values)| {
            for (i, value) in values.iter_mut().enumerate() {
                *value = part_of(place % heads, i / cols, i % cols, place / heads);
            }
        });
        by_col.par_chunks_mut(padded * cols).enumerate().for_each(|(place, values)| {
            for (i, value) in values.iter_mut().enumerate() {
                let (block, within) = (i / (cols * SIDE), i % (cols * SIDE));
                *value = part_of(place % heads, block * SIDE + within % SIDE, within / SIDE, place / heads);
            }
        });
    }
}

/// The heads of an operand of attention as a twin multiplies them: as they are, or of [`SplitHeads`].
pub(super) enum HeadRows<'a, T> {
    Real { data: &'a [T], heads: usize, dim: usize },
    Split { parts: Vec<Vec<T>>, padded: usize, cols: usize },
}

impl<'a, T: Real> HeadRows<'a, T> {
    /// Of a tensor that holds this.
    pub fn of(tensor: &'a Tensor, split: Split) -> Self {
        if split.precision == MatmulPrecision::Highest {
            return HeadRows::Real { data: tensor.real::<T>(), heads: split.heads, dim: split.head_dim };
        }
        let halves: &[f16] = bytemuck::cast_slice(&tensor.u32s()[..split.words()]);
        let (padded, cols) = (split.padded(), split.cols());
        let part = |part: usize| {
            let values = &halves[MAX_SPLIT_HEADS + part * split.part_len()..][..split.part_len()];
            let of_head = |(head, values): (usize, &[f16])| {
                let factor = power(halves[head].to_f32() as u32);
                values.iter().map(|value| T::of(value.to_f64() / factor)).collect::<Vec<T>>()
            };
            values.par_chunks(padded * cols).enumerate().flat_map_iter(of_head).collect()
        };
        HeadRows::Split { parts: (0..split.parts()).map(part).collect(), padded, cols }
    }

    /// The rows of a head from a token on.
    pub fn from(&self, head: usize, token: usize) -> Parts<'_, T> {
        match self {
            &HeadRows::Real { data, heads, dim } => Parts { high: head_rows(data, token, head, heads, dim), low: None },
            HeadRows::Split { parts, padded, cols } => {
                let first = (head * padded + token) * cols;
                let mut rows = parts.iter().map(|part| Matrix::row_major(&part[first..], *cols));
                Parts { high: rows.next().expect("a part"), low: rows.next() }
            }
        }
    }
}

/// One head of a tensor `[tokens, heads, head_dim]`, from a row on, as an operand.
pub(super) fn head_rows<T>(data: &[T], row: usize, head: usize, heads: usize, dim: usize) -> Matrix<'_, T> {
    Matrix { data: &data[(row * heads + head) * dim..], row_stride: heads * dim, col_stride: 1 }
}
