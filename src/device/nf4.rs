//! What 4 bits stand for, and blocks of them unpacked on the CPU.

#[cfg(target_arch = "x86_64")]
use pulp::x86::V3;

/// The 16 values of a block whose scale is 1: quantiles of the normal distribution ("NF4", Dettmers et al. 2023, appendix E), as
/// bitsandbytes has them.
pub const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The place of the value that is nearest to one between -1 and 1; in the middle between two, of the lower one.
pub fn nearest(value: f32) -> u32 {
    let mut place = 0;
    for above in 1..NF4.len() {
        place += u32::from(value > (NF4[above - 1] + NF4[above]) / 2.0);
    }
    place
}

/// How this processor looks values up.
#[derive(Clone, Copy)]
pub struct Lookup {
    /// In registers, where it has vectors of 8.
    #[cfg(target_arch = "x86_64")]
    vectors: Option<V3>,
}

impl Lookup {
    /// This processor's way.
    pub fn new() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            vectors: V3::try_new(),
        }
    }

    /// `values` = those of eight words of eight places each, the first lowest, times `scale`.
    #[inline(always)] // so that it is compiled with the processor's features
    pub fn unpack(self, words: &[u32; 8], scale: f32, values: &mut [f32; 64]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(vectors) = self.vectors {
            return in_registers(vectors, words, scale, values);
        }
        in_memory(words, scale, values);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)] // as above
fn in_registers(vectors: V3, words: &[u32; 8], scale: f32, values: &mut [f32; 64]) {
    let V3 { avx, avx2, .. } = vectors;
    let [low, high] = pulp::cast::<_, [std::arch::x86_64::__m256; 2]>(NF4);
    let shifts = pulp::cast([0, 4, 8, 12, 16, 20, 24, 28]);
    let scale = avx._mm256_set1_ps(scale);
    let (vectors, _) = values.as_chunks_mut::<8>();
    for word in 0..8 {
        // A permutation looks at the lower three bits of a place, a choice at the uppermost of all.
        let places = avx2._mm256_srlv_epi32(avx._mm256_set1_epi32(words[word] as i32), shifts);
        let of_low = avx2._mm256_permutevar8x32_ps(low, places);
        let of_high = avx2._mm256_permutevar8x32_ps(high, places);
        let is_high = pulp::cast(avx2._mm256_slli_epi32::<28>(places));
        vectors[word] = pulp::cast(avx._mm256_mul_ps(scale, avx._mm256_blendv_ps(of_low, of_high, is_high)));
    }
}

/// Of each byte, the two values that its halves stand for.
static PAIRS: [[f32; 2]; 256] = {
    let mut pairs = [[0.0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [NF4[byte % 16], NF4[byte / 16]];
        byte += 1;
    }
    pairs
};

#[inline(always)] // as above
fn in_memory(words: &[u32; 8], scale: f32, values: &mut [f32; 64]) {
    let (pairs, _) = values.as_chunks_mut::<2>();
    for i in 0..pairs.len() {
        let [first, second] = PAIRS[(words[i / 4] >> (8 * (i % 4))) as usize & 0xff];
        pairs[i] = [scale * first, scale * second];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_look_up_gives_the_same() {
        for place in 0..16u32 {
            assert_eq!(nearest(NF4[place as usize]), place);
        }
        for seed in 0..64u32 {
            let words = std::array::from_fn(|word| (seed * 8 + word as u32).wrapping_mul(0x9e37_79b9));
            let scale = 0.37 * seed as f32;
            let expected: [f32; 64] =
                std::array::from_fn(|i| scale * NF4[(words[i / 8] >> (4 * (i % 8)) & 15) as usize]);
            let mut values = [[0.0; 64]; 2];
            in_memory(&words, scale, &mut values[0]);
            Lookup::new().unpack(&words, scale, &mut values[1]);
            assert_eq!(values, [expected; 2]);
        }
    }
}
