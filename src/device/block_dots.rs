//! Products of few rows by a matrix in blocks, as dot products: blocks are unpacked in registers and never stored. As in
//! [`super::dots`] the order of a sum depends on its length alone.

use std::arch::x86_64::{__m256, __m256i};

use pulp::Simd;
use pulp::x86::V3;

use super::file_blocks::{Q4_0_WORDS, Q4_K_WORDS, Q6_K_WORDS, shifts};
use super::matrix::Rows;
use super::nf4::NF4;

/// How a block of so many words is unpacked: into so many vectors of eight values.
pub trait Unpack<const WORDS: usize, const VECTORS: usize>: Copy {
    /// What the vectors of a block share.
    type Shared;

    fn shared(self, vectors: V3, block: &[u32; WORDS]) -> Self::Shared;

    /// Values that are not scaled yet.
    fn vector(self, vectors: V3, block: &[u32; WORDS], shared: &Self::Shared, index: usize) -> __m256;

    /// What scales them all: the last word.
    #[inline(always)] // so that it is compiled with the processor's features
    fn scale(self, block: &[u32; WORDS]) -> f32 {
        f32::from_bits(block[WORDS - 1])
    }
}

/// The eight signed bytes of two words.
#[inline(always)] // as above
fn signed_bytes(V3 { avx, avx2, sse2, .. }: V3, [low, high]: [u32; 2]) -> __m256 {
    let bytes = sse2._mm_set_epi64x(0, (u64::from(low) | u64::from(high) << 32) as i64);
    avx._mm256_cvtepi32_ps(avx2._mm256_cvtepi8_epi32(bytes))
}

/// Signed bytes.
#[derive(Clone, Copy)]
pub struct Bytes;

impl Unpack<9, 4> for Bytes {
    type Shared = ();

    #[inline(always)] // as above
    fn shared(self, _: V3, _: &[u32; 9]) {}

    #[inline(always)] // as above
    fn vector(self, vectors: V3, words: &[u32; 9], (): &(), index: usize) -> __m256 {
        signed_bytes(vectors, [words[2 * index], words[2 * index + 1]])
    }
}

/// Places in [`NF4`].
#[derive(Clone, Copy)]
pub struct Places;

impl Unpack<9, 8> for Places {
    /// All vectors: first those of places that are lower halves of their bytes, then of upper ones. Each has four of the block's
    /// first 16 bytes and four of its last, as [`values_at`] interleaves them.
    type Shared = [[f32; 8]; 8];

    #[inline(always)] // as above
    fn shared(self, vectors: V3, words: &[u32; 9]) -> [[f32; 8]; 8] {
        let V3 { avx, avx2, .. } = vectors;
        let [w0, w1, w2, w3, w4, w5, w6, w7, _] = *words;
        let bytes: __m256i = pulp::cast([w0, w1, w2, w3, w4, w5, w6, w7]);
        let of_byte = avx._mm256_set1_epi8(0xf);
        let lower = avx2._mm256_and_si256(bytes, of_byte);
        let upper = avx2._mm256_and_si256(avx2._mm256_srli_epi16::<4>(bytes), of_byte);
        pulp::cast([values_at(vectors, lower), values_at(vectors, upper)])
    }

    #[inline(always)] // as above
    fn vector(self, _: V3, _: &[u32; 9], values: &[[f32; 8]; 8], index: usize) -> __m256 {
        pulp::cast(values[index])
    }
}

/// Rows of x, end to end, in the order of [`Places`]'s vectors.
pub fn in_order_of_places(vectors: V3, rows: Rows<f32>) -> Vec<f32> {
    let Rows { x, stride, inner, count } = rows;
    let mut ordered = vec![0.0; count * inner];
    vectors.vectorize(
        #[inline(always)]
        || {
            let V3 { avx, .. } = vectors;
            for (ordered, x) in ordered.chunks_exact_mut(inner).zip(x.chunks(stride)) {
                let blocks = x[..inner].as_chunks::<8>().0.as_chunks::<8>().0;
                for (ordered, x) in ordered.as_chunks_mut::<8>().0.as_chunks_mut::<8>().0.iter_mut().zip(blocks) {
                    for i in 0..4 {
                        let (first, last) = (pulp::cast(x[i]), pulp::cast(x[i + 4]));
                        let begins = avx._mm256_permute2f128_ps::<0x20>(first, last);
                        let ends = avx._mm256_permute2f128_ps::<0x31>(first, last);
                        ordered[i] = pulp::cast(avx._mm256_shuffle_ps::<0x88>(begins, ends));
                        ordered[i + 4] = pulp::cast(avx._mm256_shuffle_ps::<0xdd>(begins, ends));
                    }
                }
            }
        },
    );
    ordered
}

/// The bytes of [`NF4`]'s values: the lowest of all of them, the next, ..., each in both halves of a vector.
const PLANES: [[u8; 32]; 4] = {
    let mut planes = [[0; 32]; 4];
    let mut i = 0;
    while i < 4 * 32 {
        planes[i / 32][i % 32] = NF4[i % 16].to_bits().to_le_bytes()[i / 32];
        i += 1;
    }
    planes
};

/// The values at 32 places: a shuffle looks up one byte of all of them, and interleaving puts them together.
#[inline(always)] // as above
fn values_at(V3 { avx2, .. }: V3, places: __m256i) -> [[f32; 8]; 4] {
    let plane = |i: usize| avx2._mm256_shuffle_epi8(pulp::cast(PLANES[i]), places);
    let [p0, p1, p2, p3] = [plane(0), plane(1), plane(2), plane(3)];
    let low = [avx2._mm256_unpacklo_epi8(p0, p1), avx2._mm256_unpackhi_epi8(p0, p1)];
    let high = [avx2._mm256_unpacklo_epi8(p2, p3), avx2._mm256_unpackhi_epi8(p2, p3)];
    pulp::cast([
        avx2._mm256_unpacklo_epi16(low[0], high[0]),
        avx2._mm256_unpackhi_epi16(low[0], high[0]),
        avx2._mm256_unpacklo_epi16(low[1], high[1]),
        avx2._mm256_unpackhi_epi16(low[1], high[1]),
    ])
}

/// A word's first eight codes, of `BITS` bits each. Their places are constants: a call would not have the processor's features.
#[inline(always)] // as above
fn codes<const BITS: u32>(V3 { avx, avx2, .. }: V3, word: u32) -> __m256i {
    let shifted = avx2._mm256_srlv_epi32(avx._mm256_set1_epi32(word as i32), pulp::cast(const { shifts::<BITS>() }));
    avx2._mm256_and_si256(shifted, avx._mm256_set1_epi32((1 << BITS) - 1))
}

/// Q4_0's codes, less 8.
#[derive(Clone, Copy)]
pub struct Codes;

impl Unpack<Q4_0_WORDS, 4> for Codes {
    type Shared = ();

    #[inline(always)] // as above
    fn shared(self, _: V3, _: &[u32; Q4_0_WORDS]) {}

    #[inline(always)] // as above
    fn vector(self, vectors: V3, block: &[u32; Q4_0_WORDS], (): &(), index: usize) -> __m256 {
        let V3 { avx, avx2, .. } = vectors;
        let codes = codes::<4>(vectors, block[index]);
        avx._mm256_cvtepi32_ps(avx2._mm256_sub_epi32(codes, avx._mm256_set1_epi32(8)))
    }
}

/// Q4_K's values: each 32 have a scale and a minimum.
#[derive(Clone, Copy)]
pub struct ShiftedCodes;

impl Unpack<Q4_K_WORDS, 32> for ShiftedCodes {
    type Shared = [[f32; 8]; 2];

    #[inline(always)] // as above
    fn shared(self, V3 { avx, avx2, .. }: V3, block: &[u32; Q4_K_WORDS]) -> [[f32; 8]; 2] {
        let pairs = avx2._mm256_cvtepu16_epi32(pulp::cast([block[32], block[33], block[34], block[35]]));
        let scales = avx._mm256_cvtepi32_ps(avx2._mm256_and_si256(pairs, avx._mm256_set1_epi32(255)));
        let minima = avx._mm256_cvtepi32_ps(avx2._mm256_srli_epi32::<8>(pairs));
        let scale = avx._mm256_set1_ps(f32::from_bits(block[36]));
        let minimum = avx._mm256_set1_ps(f32::from_bits(block[37]));
        pulp::cast([avx._mm256_mul_ps(scale, scales), avx._mm256_mul_ps(minimum, minima)])
    }

    #[inline(always)] // as above
    fn vector(self, vectors: V3, block: &[u32; Q4_K_WORDS], [scales, offsets]: &[[f32; 8]; 2], index: usize) -> __m256 {
        let V3 { avx, fma, .. } = vectors;
        let codes = avx._mm256_cvtepi32_ps(codes::<4>(vectors, block[index]));
        let (scale, offset) = (scales[index / 4], offsets[index / 4]);
        fma._mm256_fmsub_ps(codes, avx._mm256_set1_ps(scale), avx._mm256_set1_ps(offset))
    }

    #[inline(always)] // as above
    fn scale(self, _: &[u32; Q4_K_WORDS]) -> f32 {
        1.0
    }
}

/// Q6_K's codes, less 32, times their scales.
#[derive(Clone, Copy)]
pub struct ScaledCodes;

impl Unpack<Q6_K_WORDS, 32> for ScaledCodes {
    type Shared = [[f32; 8]; 2];

    #[inline(always)] // as above
    fn shared(self, vectors: V3, block: &[u32; Q6_K_WORDS]) -> [[f32; 8]; 2] {
        let [first, second] = [[block[48], block[49]], [block[50], block[51]]];
        pulp::cast([signed_bytes(vectors, first), signed_bytes(vectors, second)])
    }

    #[inline(always)] // as above
    fn vector(self, vectors: V3, block: &[u32; Q6_K_WORDS], scales: &[[f32; 8]; 2], index: usize) -> __m256 {
        let V3 { avx, avx2, .. } = vectors;
        let low = codes::<4>(vectors, block[index]);
        let high = codes::<2>(vectors, block[32 + index / 2] >> (4 * (index % 2)));
        let codes = avx2._mm256_or_si256(low, avx2._mm256_slli_epi32::<4>(high));
        let codes = avx._mm256_cvtepi32_ps(avx2._mm256_sub_epi32(codes, avx._mm256_set1_epi32(32)));
        avx._mm256_mul_ps(avx._mm256_set1_ps(scales[index / 16][index / 2 % 8]), codes)
    }
}

/// `y[c * count + r] = x[r] . w[c]` with rows of w that are whole blocks, end to end; with vectors of 8.
pub fn block_dots<const WORDS: usize, const VECTORS: usize>(
    vectors: V3,
    unpack: impl Unpack<WORDS, VECTORS>,
    w: &[u32],
    rows: Rows<f32>,
    y: &mut [f32],
) {
    vectors.vectorize(
        #[inline(always)]
        || {
            let Rows { x, stride, inner, count: rows } = rows;
            let w = w.as_chunks::<WORDS>().0;
            let of_column = inner / (8 * VECTORS);
            let of_row = |row: usize| {
                let (vectors, _) = x[row.min(rows - 1) * stride..][..inner].as_chunks::<8>();
                vectors.as_chunks::<VECTORS>().0
            };
            let mut unpacked = vec![[[0.0; 8]; VECTORS]; if rows == 1 { 0 } else { of_column }];
            for (c, y) in y.chunks_exact_mut(rows).enumerate() {
                let w = &w[c * of_column..][..of_column];
                if rows == 1 {
                    [y[0]] = column(vectors, unpack, w, [of_row(0)], |b| {
                        let shared = unpack.shared(vectors, &w[b]);
                        move |i| unpack.vector(vectors, &w[b], &shared, i)
                    });
                    continue;
                }
                // Unpacked once for all rows.
                for (unpacked, block) in unpacked.iter_mut().zip(w) {
                    let shared = unpack.shared(vectors, block);
                    for (i, values) in unpacked.iter_mut().enumerate() {
                        *values = pulp::cast(unpack.vector(vectors, block, &shared, i));
                    }
                }
                for first in (0..rows).step_by(4) {
                    // After the last row the last is computed again.
                    let x = [of_row(first), of_row(first + 1), of_row(first + 2), of_row(first + 3)];
                    let sums = column(vectors, unpack, w, x, |b| {
                        let unpacked = &unpacked[b];
                        move |i| pulp::cast::<[f32; 8], _>(unpacked[i])
                    });
                    let count = 4.min(rows - first);
                    y[first..first + count].copy_from_slice(&sums[..count]);
                }
            }
        },
    );
}

/// A column's products: `block(b)(i)` has eight of its values, not scaled. A sum is the same whatever is computed beside it.
#[inline(always)] // as above
fn column<const WORDS: usize, const VECTORS: usize, const ROWS: usize, Vector: Fn(usize) -> __m256>(
    vectors: V3,
    unpack: impl Unpack<WORDS, VECTORS>,
    w: &[[u32; WORDS]],
    mut x: [&[[[f32; 8]; VECTORS]]; ROWS],
    block: impl Fn(usize) -> Vector,
) -> [f32; ROWS] {
    let V3 { avx, fma, .. } = vectors;
    let zero = avx._mm256_setzero_ps();
    let mut totals = [zero; ROWS];
    for x in &mut x {
        *x = &x[..w.len()];
    }
    for b in 0..w.len() {
        let vector = block(b);
        // Two sums, of which neither waits for the other.
        let mut sums = [[zero; 2]; ROWS];
        for i in 0..VECTORS {
            let values = vector(i);
            for r in 0..ROWS {
                sums[r][i % 2] = fma._mm256_fmadd_ps(values, pulp::cast(x[r][b][i]), sums[r][i % 2]);
            }
        }
        let scale = avx._mm256_set1_ps(unpack.scale(&w[b]));
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
