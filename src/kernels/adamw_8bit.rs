//! AdamW with moments in 8 bits (Dettmers et al. 2022), in the order of operations of `bitsandbytes.optim.AdamW8bit`.

use rayon::prelude::*;

use super::dynamic_map::CODES;
use super::variants::{launch_each, shared};
use crate::device::{DType, Kernel, Real, kernel, largest, reaches, vectorized};
use crate::gpu::{Cost, Launch, Needs, Subgroups, Traits, Variant};

static VARIANTS: [Variant; 2] = {
    use shared::{GRID, SUBGROUPS_ROW, WORKGROUP_ROW};
    let source = include_str!("../../shaders/adamw_8bit.wgsl");
    [
        Variant { name: "subgroups", source, includes: &[GRID, SUBGROUPS_ROW], needs: Needs::Subgroups },
        Variant { name: "workgroup", source, includes: &[GRID, WORKGROUP_ROW], needs: Needs::Nothing },
    ]
};

/// Values that share a largest magnitude; `BLOCK` in the shader.
pub const BLOCK: usize = 256;

/// Codes in a word.
const IN_WORD: usize = 4;

/// Blocks of a workgroup; `BLOCKS` in the shader.
const BLOCKS_AT_ONCE: usize = 4;

kernel! {
    /// A step of `adamw` with `m` and `v` in 8 bits: of 256 values each is a code for a multiple of the largest magnitude,
    /// `maps[code] absmax`; `m` and `v` are rounded to the nearest code after the weight is stepped by them. The first map is
    /// `m`'s, with signs.
    pub struct AdamW8bit in "adamw_8bit" of VARIANTS {
        /// `[2, 256]`
        read maps,
        /// `[count]`
        write gradient,
        /// `[count]`
        write weight,
        /// `[count / 4]`, u32: the codes of the first moment, four a word, the first in the lowest byte.
        write m,
        /// `[count / 256]`
        write m_absmax,
        /// `[count / 4]`, u32: those of the second moment.
        write v,
        /// `[count / 256]`
        write v_absmax,
        ;
        count: u32,
        /// The clipping factor.
        gradient_scale: f32,
        /// `learning_rate / (1 - beta1^step)`
        step_size: f32,
        /// `learning_rate * weight_decay`
        decay: f32,
        beta1: f32,
        beta2: f32,
        /// `1 - beta1`
        rest1: f32,
        /// `1 - beta2`
        rest2: f32,
        /// `1 / sqrt(1 - beta2^step)`
        inverse_sqrt_correction2: f32,
        epsilon: f32,
    }
}

impl Kernel for AdamW8bit<'_> {
    fn check(&self) {
        let count = self.count as usize;
        reaches::<Self>(self.maps, 2 * CODES);
        reaches::<Self>(self.gradient, count);
        reaches::<Self>(self.weight, count);
        for (codes, absmax) in [(&*self.m, &*self.m_absmax), (self.v, self.v_absmax)] {
            assert_eq!(codes.dtype(), DType::U32, "{} does not hold codes", codes.name());
            reaches::<Self>(codes, count.div_ceil(IN_WORD));
            reaches::<Self>(absmax, count.div_ceil(BLOCK));
        }
    }

    fn launch(&self, traits: Traits) -> Launch {
        let variant = &VARIANTS[usize::from(traits.subgroups == Subgroups::Missing)];
        let count = f64::from(self.count);
        let workgroups = (self.count as usize).div_ceil(BLOCK * BLOCKS_AT_ONCE);
        launch_each(variant, workgroups, Cost { flops: 60.0 * count, bytes: 20.0 * count })
    }

    fn twin<T: Real>(&mut self) {
        let count = self.count as usize;
        let of = |parameter: f32| T::of(parameter.into());
        let maps = self.maps.real::<T>()[..2 * CODES].as_chunks().0;
        let step = BlockStep {
            maps: [Map::new(&maps[0]), Map::new(&maps[1])],
            gradient_scale: of(self.gradient_scale),
            step_size: of(self.step_size),
            keep: T::one() - of(self.decay),
            betas: [of(self.beta1), of(self.beta2)],
            rests: [of(self.rest1), of(self.rest2)],
            inverse_sqrt_correction2: of(self.inverse_sqrt_correction2),
            epsilon: of(self.epsilon),
        };
        let [m, v] = [&mut *self.m, self.v].map(|codes| codes.u32s_mut().par_chunks_mut(BLOCK / IN_WORD));
        let absmax = (self.m_absmax.real_mut::<T>(), self.v_absmax.real_mut::<T>());
        let gradient = self.gradient.real_mut::<T>()[..count].par_chunks_mut(BLOCK);
        let weight = self.weight.real_mut::<T>()[..count].par_chunks_mut(BLOCK);
        (gradient, weight, m, absmax.0, v, absmax.1).into_par_iter().for_each(
            |(gradient, weight, m, m_absmax, v, v_absmax)| {
                vectorized(
                    #[inline(always)]
                    || {
                        let (m, v) = (Codes { words: m, absmax: m_absmax }, Codes { words: v, absmax: v_absmax });
                        step.run(gradient, weight, m, v)
                    },
                );
            },
        );
    }
}

/// What a step is to every block.
struct BlockStep<'a, T> {
    maps: [Map<'a, T>; 2],
    gradient_scale: T,
    step_size: T,
    keep: T,
    betas: [T; 2],
    rests: [T; 2],
    inverse_sqrt_correction2: T,
    epsilon: T,
}

impl<T: Real> BlockStep<'_, T> {
    #[inline(always)] // so that it is compiled with the features of the loop that it stands in
    fn run(&self, gradient: &mut [T], weight: &mut [T], m_block: Codes<T>, v_block: Codes<T>) {
        let ([beta1, beta2], [rest1, rest2]) = (self.betas, self.rests);
        let mut m = m_block.unpacked(&self.maps[0]);
        let mut v = v_block.unpacked(&self.maps[1]);
        let count = gradient.len();
        let weight = &mut weight[..count];
        for i in 0..count.min(BLOCK) {
            let g = self.gradient_scale * gradient[i];
            m[i] = beta1 * m[i] + rest1 * g;
            v[i] = beta2 * v[i] + rest2 * g * g;
            let direction = m[i] / (v[i].sqrt() * self.inverse_sqrt_correction2 + self.epsilon);
            weight[i] = weight[i] * self.keep - self.step_size * direction;
            gradient[i] = T::zero();
        }
        // What fills up the last block is no value.
        m[count..].fill(T::zero());
        v[count..].fill(T::zero());
        m_block.pack(&m, &self.maps[0]);
        v_block.pack(&v, &self.maps[1]);
    }
}

/// What codes stand for.
struct Map<'a, T> {
    values: &'a [T; CODES],
    /// Between a code's value and the next one's.
    middles: [T; CODES],
}

impl<'a, T: Real> Map<'a, T> {
    fn new(values: &'a [T; CODES]) -> Self {
        let next = |code: usize| values[(code + 1).min(CODES - 1)];
        Self { values, middles: std::array::from_fn(|code| (values[code] + next(code)) * T::of(0.5)) }
    }
}

/// A block of a moment.
struct Codes<'a, T> {
    words: &'a mut [u32],
    absmax: &'a mut T,
}

impl<T: Real> Codes<'_, T> {
    /// What the codes stand for.
    #[inline(always)] // as above
    fn unpacked(&self, map: &Map<T>) -> [T; BLOCK] {
        let mut values = [T::zero(); BLOCK];
        let (words, absmax) = (&*self.words, *self.absmax);
        for i in 0..BLOCK.min(IN_WORD * words.len()) {
            let code = words[i / IN_WORD] >> (8 * (i % IN_WORD)) & 0xff;
            values[i] = map.values[code as usize] * absmax;
        }
        values
    }

    /// Writes the largest magnitude of values, and the nearest codes to them, the lower of two.
    #[inline(always)] // as above
    fn pack(self, values: &[T; BLOCK], map: &Map<T>) {
        let mut sizes = [T::zero(); BLOCK];
        for i in 0..BLOCK {
            sizes[i] = values[i].abs();
        }
        let absmax = largest(&sizes);
        let inverse = T::one() / absmax.max(T::of(SMALLEST));
        // As many as there are middles between two codes below a value, all values by the same steps.
        let mut codes = [0u32; BLOCK];
        for step in [128u32, 64, 32, 16, 8, 4, 2, 1] {
            for i in 0..BLOCK {
                let middle = map.middles[(codes[i] + step - 1) as usize % CODES];
                codes[i] += if values[i] * inverse > middle { step } else { 0 };
            }
        }
        for word in 0..self.words.len().min(BLOCK / IN_WORD) {
            let first = IN_WORD * word;
            self.words[word] = codes[first] | codes[first + 1] << 8 | codes[first + 2] << 16 | codes[first + 3] << 24;
        }
        *self.absmax = absmax;
    }
}

/// A block of smaller values is one of zeros.
const SMALLEST: f64 = 1e-38;
