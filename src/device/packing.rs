//! What a product packs of its operands: panels of rows of `a` and of columns of `b`, in the order in which a tile reads them.

#![expect(
    clippy::manual_memcpy,
    reason = "iterators are not inlined into what is compiled with the processor's features, and loops over them not vectorised"
)]

use std::cell::Cell;
use std::ops::Range;
use std::thread::LocalKey;

use bytemuck::{Pod, Zeroable};

use super::matrix::Matrix;
use super::real::Real;

/// Terms that the loop of a tile has written out. What is packed is so many at a time, with zeros after the last.
pub(super) const UNROLLED: usize = 4;

/// Packs rows of `a`, of those terms, panel after panel, [`UNROLLED`] terms at a time: a row's side by side where they are so in
/// `a`, which takes no more than copying, else a term's. After the last row there is what no tile writes.
#[inline(always)] // so that it is compiled with the processor's features
pub(super) fn pack_rows<T: Real, const ROWS: usize>(
    panels: &mut [T],
    a: Matrix<'_, T>,
    rows: Range<usize>,
    terms: Range<usize>,
) {
    if a.col_stride != 1 {
        return pack_side_by_side(panels, ROWS, a.transposed(), rows, terms);
    }
    let panel_blocks = terms.len().div_ceil(UNROLLED);
    let blocks = panels.as_chunks_mut::<UNROLLED>().0.as_chunks_mut::<ROWS>().0;
    for i in 0..rows.len() {
        let row = &a.data[(rows.start + i) * a.row_stride..][terms.clone()];
        let blocks = &mut blocks[i / ROWS * panel_blocks..][..panel_blocks];
        let (whole, rest) = row.as_chunks::<UNROLLED>();
        for k in 0..whole.len() {
            blocks[k][i % ROWS] = whole[k];
        }
        if !rest.is_empty() {
            let mut last = [T::zero(); UNROLLED];
            for k in 0..rest.len() {
                last[k] = rest[k];
            }
            blocks[whole.len()][i % ROWS] = last;
        }
    }
}

/// Packs columns of `b`, of those terms, into as many of `panels` as they take, a term's values side by side. After the last
/// column there is what no tile writes.
#[inline(always)] // as above
pub(super) fn pack_columns<T: Real>(
    panels: &mut [T],
    width: usize,
    b: Matrix<'_, T>,
    cols: Range<usize>,
    terms: Range<usize>,
) {
    /// Terms of all columns before those after them are packed: what is written stays in the first cache.
    const AT_ONCE: usize = 64;
    if b.col_stride == 1 {
        return pack_side_by_side(panels, width, b, cols, terms);
    }
    assert_eq!(b.row_stride, 1, "an operand's values are side by side in neither direction");
    let panel_len = terms.len().next_multiple_of(UNROLLED) * width;
    for j in 0..panels.len() / panel_len {
        let panel = &mut panels[j * panel_len..][..panel_len];
        let cols = cols.start + j * width..cols.end.min(cols.start + (j + 1) * width);
        for first in (0..terms.len()).step_by(AT_ONCE) {
            let now = AT_ONCE.min(terms.len() - first);
            let part = &mut panel[first * width..][..now * width];
            for i in 0..cols.len() {
                let column = &b.data[(cols.start + i) * b.col_stride + terms.start + first..][..now];
                for k in 0..now {
                    part[k * width + i] = column[k];
                }
            }
        }
        panel[terms.len() * width..].fill(T::zero());
    }
}

/// As [`pack_columns`], where a term's values are side by side.
#[inline(always)] // as above
fn pack_side_by_side<T: Real>(
    panels: &mut [T],
    width: usize,
    b: Matrix<'_, T>,
    cols: Range<usize>,
    terms: Range<usize>,
) {
    assert_eq!(b.col_stride, 1, "an operand's values are side by side in neither direction");
    let panel_len = terms.len().next_multiple_of(UNROLLED) * width;
    let count = cols.len().min(panels.len() / panel_len * width);
    for k in 0..terms.len() {
        let row = &b.data[(terms.start + k) * b.row_stride + cols.start..][..count];
        for j in 0..count / width {
            let (values, stored) = (&mut panels[j * panel_len + k * width..][..width], &row[j * width..][..width]);
            for i in 0..width {
                values[i] = stored[i];
            }
        }
        let whole = count / width * width;
        for i in whole..count {
            panels[whole / width * panel_len + k * width + i - whole] = row[i];
        }
    }
    for j in 0..panels.len() / panel_len {
        panels[j * panel_len..][terms.len() * width..panel_len].fill(T::zero());
    }
}

/// A line of a cache, to which what is packed is aligned.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line([u8; 64]);

thread_local! {
    pub(super) static PANELS_OF_A: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    pub(super) static PANELS_OF_B: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Lends room for `len` values, which a thread keeps from product to product: new memory costs a page fault every 4 KiB.
pub(super) fn with_room<T: Pod>(kept: &'static LocalKey<Cell<Vec<Line>>>, len: usize, work: impl FnOnce(&mut [T])) {
    // Taken and not borrowed: while this thread waits for others, it may begin another product.
    let mut lines = kept.take();
    let count = (len * size_of::<T>()).div_ceil(size_of::<Line>());
    if lines.len() < count {
        lines.resize(count, Line::zeroed());
    }
    work(&mut bytemuck::cast_slice_mut(&mut lines)[..len]);
    kept.set(lines);
}
