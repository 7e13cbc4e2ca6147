//! Products of few rows by a matrix in blocks, as dot products: blocks are unpacked in registers and never stored. As in
//! [`super::dots`] the order of a sum depends on its length alone.

use std::arch::x86_64::__m256;

use pulp::Simd;
use pulp::x86::V3;

use super::dots::Dots;
use super::nf4::NF4;

/// Eight words of values, and their scale.
type Block = [u32; 9];

/// How the words of a block are unpacked: into so many vectors of eight values.
pub trait Unpack<const VECTORS: usize>: Copy {
    /// Values that are not scaled yet.
    fn vector(self, vectors: V3, words: &[u32; 8], index: usize) -> __m256;
}

/// Signed bytes.
#[derive(Clone, Copy)]
pub struct Bytes;

impl Unpack<4> for Bytes {
    #[inline(always)] // so that it is compiled with the processor's features
    fn vector(self, vectors: V3, words: &[u32; 8], index: usize) -> __m256 {
        let bytes = u64::from(words[2 * index]) | u64::from(words[2 * index + 1]) << 32;
        let bytes = vectors.sse2._mm_set_epi64x(0, bytes as i64);
        vectors.avx._mm256_cvtepi32_ps(vectors.avx2._mm256_cvtepi8_epi32(bytes))
    }
}

/// Places in [`NF4`].
#[derive(Clone, Copy)]
pub struct Places;

impl Unpack<8> for Places {
    #[inline(always)] // as above
    fn vector(self, V3 { avx, avx2, .. }: V3, words: &[u32; 8], index: usize) -> __m256 {
        let [low, high] = pulp::cast::<_, [__m256; 2]>(NF4);
        let shifts = pulp::cast([0, 4, 8, 12, 16, 20, 24, 28]);
        // A permutation looks at the lower three bits of a place, a choice at the uppermost of all.
        let places = avx2._mm256_srlv_epi32(avx._mm256_set1_epi32(words[index] as i32), shifts);
        let of_low = avx2._mm256_permutevar8x32_ps(low, places);
        let of_high = avx2._mm256_permutevar8x32_ps(high, places);
        avx._mm256_blendv_ps(of_low, of_high, pulp::cast(avx2._mm256_slli_epi32::<28>(places)))
    }
}

/// The products with rows that are whole blocks, end to end; with vectors of 8.
pub fn block_dots<const VECTORS: usize>(vectors: V3, unpack: impl Unpack<VECTORS>, w: &[Block], dots: Dots<f32>) {
    vectors.vectorize(
        #[inline(always)]
        || {
            let Dots { x, x_stride, inner, rows, y } = dots;
            let of_row = |row: usize| {
                let (vectors, _) = x[row.min(rows - 1) * x_stride..][..inner].as_chunks::<8>();
                vectors.as_chunks::<VECTORS>().0
            };
            let of_column = inner / (8 * VECTORS);
            let mut unpacked = vec![[[0.0; 8]; VECTORS]; if rows == 1 { 0 } else { of_column }];
            for (c, y) in y.chunks_exact_mut(rows).enumerate() {
                let w = &w[c * of_column..][..of_column];
                if rows == 1 {
                    [y[0]] = column(vectors, w, [of_row(0)], |words, _, i| unpack.vector(vectors, words, i));
                    continue;
                }
                // Unpacked once for all rows.
                for (unpacked, [words @ .., _]) in unpacked.iter_mut().zip(w) {
                    for (i, values) in unpacked.iter_mut().enumerate() {
                        *values = pulp::cast(unpack.vector(vectors, words, i));
                    }
                }
                for first in (0..rows).step_by(4) {
                    // After the last row the last is computed again.
                    let x = [of_row(first), of_row(first + 1), of_row(first + 2), of_row(first + 3)];
                    let sums = column(vectors, w, x, |_, b, i| pulp::cast::<[f32; 8], _>(unpacked[b][i]));
                    let count = 4.min(rows - first);
                    y[first..first + count].copy_from_slice(&sums[..count]);
                }
            }
        },
    );
}

/// A column's products: `vector(words, block, index)` has eight of its values, not scaled. A sum is the same whatever is computed
/// beside it.
#[inline(always)] // as above
fn column<const VECTORS: usize, const ROWS: usize>(
    vectors: V3,
    w: &[Block],
    mut x: [&[[[f32; 8]; VECTORS]]; ROWS],
    vector: impl Fn(&[u32; 8], usize, usize) -> __m256,
) -> [f32; ROWS] {
    let V3 { avx, fma, .. } = vectors;
    let zero = avx._mm256_setzero_ps();
    let mut totals = [zero; ROWS];
    for x in &mut x {
        *x = &x[..w.len()];
    }
    for b in 0..w.len() {
        let [words @ .., scale] = &w[b];
        // Two sums, of which neither waits for the other.
        let mut sums = [[zero; 2]; ROWS];
        for i in 0..VECTORS {
            let values = vector(words, b, i);
            for r in 0..ROWS {
                sums[r][i % 2] = fma._mm256_fmadd_ps(values, pulp::cast(x[r][b][i]), sums[r][i % 2]);
            }
        }
        let scale = avx._mm256_set1_ps(f32::from_bits(*scale));
        for r in 0..ROWS {
            totals[r] = fma._mm256_fmadd_ps(scale, avx._mm256_add_ps(sums[r][0], sums[r][1]), totals[r]);
        }
    }
    let mut products = [0.0; ROWS];
    for r in 0..ROWS {
        products[r] = vectors.reduce_sum_f32s(pulp::cast(totals[r]));
    }
    products
}
