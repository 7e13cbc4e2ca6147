//! The draw of the next token, where the logits are.

use rayon::prelude::*;

use super::variants::{ROW_LANES, long_row_lanes, reducing_rows_of_four};
use crate::device::{Kernel, Real, kernel, reaches, sum_over, vectorized};
use crate::gpu::{Cost, Launch, Subgroups, Traits, Variant, line};

static VARIANTS: [Variant; 3] = reducing_rows_of_four(include_str!("../../shaders/sample_token.wgsl"));

kernel! {
    /// `token ~ softmax(x / temperature)` over the tokens that pass top-k, top-p and the least probability, or the most
    /// likely one; `logp = x[token] - log sum exp(x)`. (What passes is told in the shader's header.)
    pub struct SampleToken in "sample_token" of VARIANTS {
        /// `[rows, stride]`
        read logits,
        /// `[rows]`: from 0 to below 1.
        read uniforms,
        /// `[rows]`, u32
        write tokens,
        /// `[rows]`
        write logp,
        ;
        rows: u32,
        /// The vocabulary.
        cols: u32,
        /// From one row of `logits` to the next; a multiple of 4.
        stride: u32,
        /// `1 / temperature`; 0: greedy.
        inverse_temperature: f32,
        /// 0: off.
        top_k: u32,
        /// 1: off.
        top_p: f32,
        /// 0: off.
        min_prob: f32,
    }
}

impl Kernel for SampleToken<'_> {
    fn check(&self) {
        assert!(self.stride.is_multiple_of(4) && self.stride >= self.cols, "sample_token: stride {}", self.stride);
        assert!(self.cols > 0 && self.cols < 1 << 24, "sample_token: {} columns", self.cols);
        let rows = self.rows as usize;
        reaches::<Self>(self.logits, rows * self.stride as usize);
        reaches::<Self>(self.uniforms, rows);
        reaches::<Self>(self.tokens, rows);
        reaches::<Self>(self.logp, rows);
    }

    fn launch(&self, traits: Traits) -> Launch {
        let passes: usize = if self.inverse_temperature == 0.0 { 1 } else { 5 };
        let elements = passes as f64 * f64::from(self.rows) * f64::from(self.cols);
        // There are few rows, and so many lanes for each. llvmpipe, which walks the lanes one by one, has nothing of that; but
        // it ends an invocation's loops after 65535 rounds, and a row whose candidates do not suffice takes 30 passes.
        let rounds = |lanes: u32| 30 * (self.cols as usize).div_ceil(4 * lanes as usize);
        let (variant, lanes) = match traits.subgroups {
            Subgroups::OfSize(size) if traits.software && rounds(size) < 50_000 => (&VARIANTS[0], size),
            _ => long_row_lanes(&VARIANTS, traits),
        };
        Launch {
            variant,
            constants: vec![(ROW_LANES, f64::from(lanes))],
            workgroups: line(self.rows as usize),
            cost: Cost { flops: 16.0 * elements, bytes: 4.0 * elements },
        }
    }

    fn twin<T: Real>(&mut self) {
        let (rows, cols, stride) = (self.rows as usize, self.cols as usize, self.stride as usize);
        let logits = &self.logits.real::<T>()[..rows * stride];
        let inverse_temperature = T::of(self.inverse_temperature.into());
        let (top_k, top_p, min_prob) = (self.top_k as usize, T::of(self.top_p.into()), T::of(self.min_prob.into()));
        let uniforms = self.uniforms.real::<T>();
        let (tokens, logp) = (self.tokens.u32s_mut(), self.logp.real_mut::<T>());
        let outputs = (tokens.par_iter_mut(), logp.par_iter_mut());
        let rows = (logits.par_chunks(stride), uniforms.par_iter(), outputs.into_par_iter());
        rows.into_par_iter().for_each(|(x, &uniform, (token, logp))| {
            let x = &x[..cols];
            let first_largest = |best: usize, i: usize| if x[i] > x[best] { i } else { best };
            let best = (1..cols).fold(0, first_largest);
            let largest = x[best];
            let [exponentials] = vectorized(
                #[inline(always)]
                || sum_over([x], |[x]| [(x - largest).exp_in_loops()]),
            );
            let chosen = if inverse_temperature == T::zero() {
                best
            } else {
                // The distance from the largest logit: the rank of a token.
                let distance = |i: usize| (x[best] - x[i]) * inverse_temperature;
                let passing = passing((0..cols).map(distance).collect(), top_k, top_p, min_prob);
                draw(&passing, uniform).unwrap_or(best)
            };
            *token = chosen as u32;
            *logp = x[chosen] - x[best] - exponentials.ln();
        });
    }
}

/// The tokens that pass, by ascending id, each with `exp(-distance)`.
fn passing<T: Real>(distances: Vec<T>, top_k: usize, top_p: T, min_prob: T) -> Vec<(usize, T)> {
    let ascending = |a: &T, b: &T| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal);
    let weights = weights(&distances);
    let mut passing: Vec<usize> = (0..distances.len()).collect();
    if top_k > 0 && top_k < distances.len() {
        let mut ranked = distances.clone();
        let (_, &mut limit, _) = ranked.select_nth_unstable_by(top_k - 1, ascending);
        passing.retain(|&token| distances[token] <= limit);
    }
    if top_p < T::one() {
        let total: T = passing.iter().map(|&token| weights[token]).sum();
        let mut ranked = passing.clone();
        ranked.sort_unstable_by(|&a, &b| ascending(&distances[a], &distances[b]));
        let mut above = T::zero();
        let mut limit = T::zero();
        for token in ranked {
            if above >= top_p * total {
                break;
            }
            limit = distances[token];
            above += weights[token];
        }
        passing.retain(|&token| distances[token] <= limit);
    }
    let total: T = passing.iter().map(|&token| weights[token]).sum();
    passing.retain(|&token| weights[token] >= min_prob * total || distances[token] == T::zero());
    passing.into_iter().map(|token| (token, weights[token])).collect()
}

/// `exp(-distance)`.
fn weights<T: Real>(distances: &[T]) -> Vec<T> {
    let mut weights = vec![T::zero(); distances.len()];
    vectorized(
        #[inline(always)]
        || {
            for (weight, &distance) in weights.iter_mut().zip(distances) {
                *weight = (-distance).exp_in_loops();
            }
        },
    );
    weights
}

/// The token at `uniform` of the distribution function.
fn draw<T: Real>(weights: &[(usize, T)], uniform: T) -> Option<usize> {
    let total: T = weights.iter().map(|(_, weight)| *weight).sum();
    let goal = uniform * total;
    let mut reached = T::zero();
    for (token, weight) in weights.iter().filter(|(_, weight)| *weight > T::zero()) {
        reached += *weight;
        if reached > goal {
            return Some(*token);
        }
    }
    weights.iter().rev().find(|(_, weight)| *weight > T::zero()).map(|(token, _)| *token)
}
