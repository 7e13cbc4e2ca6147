//! Biases on every row of up to three matrices. Their gradient is [`ColumnSum`](super::ColumnSum).

use rayon::prelude::*;

use super::variants::{by_width, launch_by_width};
use crate::device::{Device, Kernel, Real, Tensor, kernel, reaches, word};
use crate::gpu::{Cost, Launch, Traits, Variant};

static VARIANTS: [Variant; 2] = by_width(include_str!("../../shaders/add_bias.wgsl"));

kernel! {
    /// `y_p[r, c] += bias_p[c]`. A part without columns is not there.
    pub struct AddBias in "add_bias" of VARIANTS {
        /// `[cols0]`
        read bias0,
        /// `[cols1]`
        read bias1,
        /// `[cols2]`
        read bias2,
        /// `[rows, cols0]`
        write y0,
        /// `[rows, cols1]`
        write y1,
        /// `[rows, cols2]`
        write y2,
        ;
        rows: u32,
        cols0: u32,
        cols1: u32,
        cols2: u32,
    }
}

/// A bias `[cols]` and what it is added to, `[rows, cols]`.
pub struct Biased<'a> {
    pub bias: &'a Tensor,
    pub y: &'a mut Tensor,
    pub cols: usize,
}

impl AddBias<'_> {
    /// `y += bias` of `rows` rows, of three matrices.
    pub fn run(device: &Device, parts: [Biased; 3], rows: usize) {
        let [first, second, third] = parts;
        device.run(AddBias {
            bias0: first.bias,
            bias1: second.bias,
            bias2: third.bias,
            y0: first.y,
            y1: second.y,
            y2: third.y,
            rows: word(rows),
            cols0: word(first.cols),
            cols1: word(second.cols),
            cols2: word(third.cols),
        });
    }
}

impl Kernel for AddBias<'_> {
    fn check(&self) {
        let parts = [
            (self.bias0, &*self.y0, self.cols0),
            (self.bias1, &*self.y1, self.cols1),
            (self.bias2, &*self.y2, self.cols2),
        ];
        for (bias, y, cols) in parts {
            reaches::<Self>(bias, cols as usize);
            reaches::<Self>(y, self.rows as usize * cols as usize);
        }
    }

    fn launch(&self, _: Traits) -> Launch {
        let cols = [self.cols0, self.cols1, self.cols2].map(|cols| cols as usize);
        let rows = self.rows as usize;
        let all: usize = cols.iter().sum();
        let elements = (rows * all) as f64;
        // Whole groups of four in every part, or none.
        let width = if cols.iter().all(|cols| cols.is_multiple_of(4)) { all } else { 1 };
        launch_by_width(&VARIANTS, rows * (all / width), width, Cost { flops: elements, bytes: 8.0 * elements })
    }

    fn twin<T: Real>(&mut self) {
        let rows = self.rows as usize;
        let parts = [
            (self.bias0, &mut *self.y0, self.cols0),
            (self.bias1, &mut *self.y1, self.cols1),
            (self.bias2, &mut *self.y2, self.cols2),
        ];
        for (bias, y, cols) in parts.into_iter().filter(|(_, _, cols)| *cols > 0) {
            let cols = cols as usize;
            let bias = &bias.real::<T>()[..cols];
            let y = &mut y.real_mut::<T>()[..rows * cols];
            y.par_chunks_mut(cols).for_each(|y| y.iter_mut().zip(bias).for_each(|(y, &bias)| *y += bias));
        }
    }
}
