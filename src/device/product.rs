//! Products of matrices on the CPU, of any size and layout.
//!
//! As Goto and van de Geijn (2008) have it: `b` is packed, by all threads and once for all, into panels of as many columns as a
//! tile of `c` has; a thread takes rows of `c` at a time, packs its rows of `a` likewise, and computes tile after tile, whose
//! sums stay in registers. A panel of `b` stays in the first cache meanwhile and the rows of `a` in the second.

#![expect(
    clippy::needless_range_loop,
    clippy::manual_memcpy,
    reason = "iterators are not inlined into what is compiled with the processor's features, and loops over them not vectorised"
)]

use std::ops::{Range, RangeInclusive};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::matrix::{Matrix, MatrixMut};
use super::packing::{PANELS_OF_A, PANELS_OF_B, UNROLLED, pack_columns, pack_rows, with_room};
use super::real::Real;

/// What a product is computed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    This,
    All,
}

/// Terms of a sum that are added up in registers, at most.
const DEPTH: usize = 384;

/// Rows of `c` that a thread takes at a time: at most so many that those of `a`, [`DEPTH`] deep, stay in the second cache.
const ROWS_AT_A_TIME: RangeInclusive<usize> = 24..=192;

/// Shares of the rows for each thread, so that one that is done early takes more.
const SHARES: usize = 4;

/// Values of `b` that are packed at a time, about: 4 MiB of `f32`.
const PACKED: usize = 1 << 20;

/// Columns of `b` that are packed at a time at least, so that packing the rows of `a` for them is little beside.
const LEAST_COLS: usize = 1024;

/// Panels of `b` that a thread packs at a time, so that rows of `b` are read in longer parts than a line of a cache.
const PANELS_AT_ONCE: usize = 8;

/// Multiplications that are worth more than one thread.
const WORTH_THREADS: usize = 1 << 19;

/// `c (+)= a b`, for `inner` terms a sum. An element's sum is taken in an order that depends on `inner` alone: neither the
/// number of threads nor the rows and columns beside it change its bits.
///
/// `a` and `b` carry both their strides, so a transposed operand is one whose strides are swapped; one of the two strides is 1.
/// `accumulate` adds to `c`, else it is overwritten.
pub fn multiply<T: Real>(
    threads: Threads,
    c: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    inner: usize,
    accumulate: bool,
) {
    let (rows, cols) = (c.rows, c.cols);
    if rows == 0 || cols == 0 {
        return;
    }
    if inner == 0 {
        if !accumulate {
            c.data.chunks_mut(c.row_stride).take(rows).for_each(|row| row[..cols].fill(T::zero()));
        }
        return;
    }
    let c = MatrixMut { data: &mut c.data[..(rows - 1) * c.row_stride + cols], ..c };
    let threads = if rows * cols * inner < WORTH_THREADS { Threads::This } else { threads };
    let depth = inner.div_ceil(inner.div_ceil(DEPTH)).next_multiple_of(UNROLLED);
    Arch::new().dispatch(Product { threads, c, a, b, inner, depth, accumulate });
}

struct Product<'a, T> {
    threads: Threads,
    c: MatrixMut<'a, T>,
    a: Matrix<'a, T>,
    b: Matrix<'a, T>,
    inner: usize,
    /// Terms that are added up in registers.
    depth: usize,
    accumulate: bool,
}

impl<T: Real> WithSimd for Product<'_, T> {
    type Output = ();

    #[inline(always)] // so that it is compiled with the processor's features
    fn with_simd<S: Simd>(self, simd: S) {
        // A tile's sums fill the registers but for a row of b and a value of a.
        if S::REGISTER_COUNT >= 32 { self.by_tiles::<S, 8, 3>(simd) } else { self.by_tiles::<S, 6, 2>(simd) }
    }
}

impl<T: Real> Product<'_, T> {
    /// By tiles of `ROWS` rows and of `VECTORS` registers of columns.
    #[inline(always)] // as above
    fn by_tiles<S: Simd, const ROWS: usize, const VECTORS: usize>(mut self, simd: S) {
        let (inner, depth, all_cols) = (self.inner, self.depth, self.c.cols);
        let width = VECTORS * T::lanes::<S>();
        let cols_at_once = (PACKED / inner).max(LEAST_COLS).next_multiple_of(width).min(all_cols);
        let inner_at_once = ((PACKED / cols_at_once / depth).max(1) * depth).min(inner);
        for first_col in (0..all_cols).step_by(cols_at_once) {
            let cols = first_col..all_cols.min(first_col + cols_at_once);
            for first in (0..inner).step_by(inner_at_once) {
                let terms = first..inner.min(first + inner_at_once);
                let panel_len = terms.len().next_multiple_of(UNROLLED) * width;
                with_room(&PANELS_OF_B, cols.len().div_ceil(width) * panel_len, |panels| {
                    for_each_chunk(self.threads, panels, PANELS_AT_ONCE * panel_len, |i, panels| {
                        let cols = cols.start + i * PANELS_AT_ONCE * width..cols.end;
                        simd.vectorize(
                            #[inline(always)]
                            || pack_columns(panels, VECTORS * T::lanes::<S>(), self.b, cols, terms.clone()),
                        );
                    });
                    self.multiply_panels::<S, ROWS, VECTORS>(simd, panels, cols.clone(), terms.clone());
                });
            }
        }
    }

    /// All rows of `a` by packed columns of `b`, of the same terms.
    #[inline(always)] // as above
    fn multiply_panels<S: Simd, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        panels: &[T],
        cols: Range<usize>,
        terms: Range<usize>,
    ) {
        let (a, depth, all_rows, row_stride) = (self.a, self.depth, self.c.rows, self.c.row_stride);
        let accumulate = self.accumulate || terms.start > 0;
        let rows_at_once = match self.threads {
            Threads::This => *ROWS_AT_A_TIME.end(),
            Threads::All => all_rows.div_ceil(SHARES * rayon::current_num_threads()),
        };
        let rows_at_once = rows_at_once.clamp(*ROWS_AT_A_TIME.start(), *ROWS_AT_A_TIME.end()).next_multiple_of(ROWS);
        for_each_chunk(self.threads, self.c.data, rows_at_once * row_stride, |i, data| {
            let (rows, data) = (i * rows_at_once..all_rows.min((i + 1) * rows_at_once), &mut data[cols.start..]);
            let c = MatrixMut { data, rows: rows.len(), cols: cols.len(), row_stride };
            with_room(&PANELS_OF_A, rows.len().next_multiple_of(ROWS) * depth, |room| {
                let share = Share { c, a, rows, terms: terms.clone(), depth, panels, accumulate };
                simd.vectorize(
                    #[inline(always)]
                    || share.multiply::<S, ROWS, VECTORS>(simd, room),
                );
            });
        });
    }
}

/// Rows of `c` that a thread computes, of the columns and the terms whose panels of `b` are packed.
struct Share<'a, T> {
    c: MatrixMut<'a, T>,
    a: Matrix<'a, T>,
    rows: Range<usize>,
    terms: Range<usize>,
    depth: usize,
    panels: &'a [T],
    accumulate: bool,
}

impl<T: Real> Share<'_, T> {
    /// `room` holds the share's rows of `a`, `depth` deep.
    #[inline(always)] // as above
    fn multiply<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S, room: &mut [T]) {
        let Self { c, a, rows, terms, depth, panels, accumulate } = self;
        let width = VECTORS * T::lanes::<S>();
        for first in terms.clone().step_by(depth) {
            let now = first..terms.end.min(first + depth);
            let now_len = now.len().next_multiple_of(UNROLLED);
            let rows_of_a = &mut room[..rows.len().next_multiple_of(ROWS) * now_len];
            pack_rows::<T, ROWS>(rows_of_a, a, rows.clone(), now.clone());
            let accumulate = accumulate || first > terms.start;
            let panel_len = terms.len().next_multiple_of(UNROLLED) * width;
            for col in (0..c.cols).step_by(width) {
                let b = &panels[col / width * panel_len + (first - terms.start) * width..][..now_len * width];
                for row in (0..c.rows).step_by(ROWS) {
                    let a_panel = &rows_of_a[row * now_len..][..ROWS * now_len];
                    let tile = MatrixMut {
                        data: &mut c.data[row * c.row_stride + col..],
                        rows: ROWS.min(c.rows - row),
                        cols: width.min(c.cols - col),
                        row_stride: c.row_stride,
                    };
                    if a.col_stride == 1 {
                        let a = a_panel.as_chunks::<UNROLLED>().0.as_chunks::<ROWS>().0;
                        multiply_tile::<_, T, S, ROWS, VECTORS>(
                            simd,
                            tile,
                            a,
                            #[inline(always)]
                            |a, row, term| a[row][term],
                            b,
                            accumulate,
                        );
                    } else {
                        let a = a_panel.as_chunks::<ROWS>().0.as_chunks::<UNROLLED>().0;
                        multiply_tile::<_, T, S, ROWS, VECTORS>(
                            simd,
                            tile,
                            a,
                            #[inline(always)]
                            |a, row, term| a[term][row],
                            b,
                            accumulate,
                        );
                    }
                }
            }
        }
    }
}

/// One tile of `c`, by a panel of `ROWS` rows of `a`, of whose blocks `value` gives that of a row and a term, and one of
/// `VECTORS` registers of columns of `b`.
#[inline(always)] // as above
fn multiply_tile<A, T: Real, S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    c: MatrixMut<'_, T>,
    a: &[A],
    value: impl Fn(&A, usize, usize) -> T,
    b: &[T],
    accumulate: bool,
) {
    let b = &T::vectors::<S>(b).0.as_chunks::<VECTORS>().0.as_chunks::<UNROLLED>().0[..a.len()];
    let mut sums = [[T::splat(simd, T::zero()); VECTORS]; ROWS];
    for block in 0..a.len() {
        for k in 0..UNROLLED {
            for i in 0..ROWS {
                let a = T::splat(simd, value(&a[block], i, k));
                for j in 0..VECTORS {
                    sums[i][j] = T::mul_add_vectors(simd, a, b[block][k][j], sums[i][j]);
                }
            }
        }
    }
    // Sums are named by numbers that the compiler knows, and so stay in registers.
    if c.rows == ROWS && c.cols == VECTORS * T::lanes::<S>() {
        for i in 0..ROWS {
            let row = T::vectors_mut::<S>(&mut c.data[i * c.row_stride..][..c.cols]).0;
            for j in 0..VECTORS {
                row[j] = if accumulate { T::add_vectors(simd, row[j], sums[i][j]) } else { sums[i][j] };
            }
        }
        return;
    }
    let mut whole = [[T::zero(); MOST_COLS]; ROWS];
    for i in 0..ROWS {
        let row = T::vectors_mut::<S>(&mut whole[i]).0;
        for j in 0..VECTORS {
            row[j] = sums[i][j];
        }
    }
    for i in 0..c.rows {
        let row = &mut c.data[i * c.row_stride..][..c.cols];
        for j in 0..c.cols {
            row[j] = if accumulate { row[j] + whole[i][j] } else { whole[i][j] };
        }
    }
}

/// The most columns of a tile: three registers of AVX-512.
const MOST_COLS: usize = 48;

/// Calls `work` with the number of each chunk of `data` and the chunk.
fn for_each_chunk<T: Send>(threads: Threads, data: &mut [T], len: usize, work: impl Fn(usize, &mut [T]) + Send + Sync) {
    match threads {
        Threads::This => data.chunks_mut(len).enumerate().for_each(|(i, chunk)| work(i, chunk)),
        Threads::All => data.par_chunks_mut(len).enumerate().for_each(|(i, chunk)| work(i, chunk)),
    }
}
