//! What 4 bits stand for.

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

/// `values` = those of eight words of eight places each, the first lowest, times `scale`.
#[inline(always)] // so that it is compiled with the processor's features
pub fn unpack(words: &[u32; 8], scale: f32, values: &mut [f32; 64]) {
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
    fn every_place_is_its_values_nearest() {
        for place in 0..16u32 {
            assert_eq!(nearest(NF4[place as usize]), place);
            let mut values = [0.0; 64];
            unpack(&[place * 0x1111_1111; 8], 3.0, &mut values);
            assert_eq!(values, [3.0 * NF4[place as usize]; 64]);
        }
    }
}
