//! The lambda-return (eq. 3.11 of the paper) as a parallel reverse scan of affine maps `G -> a + b G`.

use super::variants::{launch_each, only, shared};
use crate::device::{Kernel, Real, kernel, reaches};
use crate::gpu::{Cost, Launch, Traits, Variant};

pub(super) const REVERSE_SCAN: &str = include_str!("../../shaders/shared/reverse_scan.wgsl");
/// Over [`REVERSE_SCAN`] and the kernel's own `step_map`.
pub(super) const LANE_MAP: &str = include_str!("../../shaders/shared/lane_map.wgsl");

static VARIANTS: [Variant; 1] =
    only(include_str!("../../shaders/lambda_return.wgsl"), &[shared::GRID, REVERSE_SCAN, LANE_MAP]);

kernel! {
    /// `G[t] = reward[t] + (1 - lambda) V[t + 1] + lambda G[t + 1]` over each sequence, from its end.
    pub struct LambdaReturn in "lambda_return" of VARIANTS {
        /// `[sequences + 1]`: where each sequence starts on the axis of positions.
        index starts,
        /// `[positions]`: the reward of each step, its KL term included.
        read reward,
        /// `[positions]`: V of the state before each step.
        read value,
        /// `[sequences]`: V of the state after the last step; 0 where the sequence ended.
        read bootstrap,
        /// `[positions]`: G.
        write returns,
        ;
        sequences: u32,
        lambda: f32,
        /// 1: the weights of eq. 3.11 as printed, which sum to `1 - lambda^n`; 0: the usual ones, which sum to 1.
        paper_tail: u32,
    }
}

/// How much a return counts of the returns after it.
#[derive(Clone, Copy)]
pub(crate) struct Weights<T> {
    pub lambda: T,
    /// The weights of eq. 3.11 as printed, which sum to `1 - lambda^n`.
    pub paper_tail: bool,
}

/// The return of a position, and what it is made of.
pub(crate) struct Return<T> {
    /// The position.
    pub t: usize,
    /// `G[t]`
    pub g: T,
    /// `G[t + 1]`
    pub next_g: T,
    /// `V[t + 1]`
    pub next_value: T,
}

/// Calls `visit` for the positions of one sequence, last first.
pub(crate) fn for_each_return<T: Real>(
    positions: std::ops::Range<usize>,
    reward: impl Fn(usize) -> T,
    value: &[T],
    bootstrap: T,
    weights: Weights<T>,
    mut visit: impl FnMut(Return<T>),
) {
    let Weights { lambda, paper_tail } = weights;
    let paper_tail = paper_tail && lambda < T::one();
    let mut next_g = if paper_tail { T::zero() } else { bootstrap };
    let mut power = T::one();
    for t in positions.clone().rev() {
        let next_value = if t + 1 < positions.end { value[t + 1] } else { bootstrap };
        power *= lambda;
        let weight = if paper_tail { T::one() - power } else { T::one() };
        let g = weight * reward(t) + (T::one() - lambda) * next_value + lambda * next_g;
        visit(Return { t, g, next_g, next_value });
        next_g = g;
    }
}

impl Kernel for LambdaReturn<'_> {
    fn check(&self) {
        reaches::<Self>(self.starts, self.sequences as usize + 1);
        reaches::<Self>(self.bootstrap, self.sequences as usize);
        let positions = self.returns.len();
        reaches::<Self>(self.reward, positions);
        reaches::<Self>(self.value, positions);
    }

    fn launch(&self, _: Traits) -> Launch {
        let positions = self.returns.len() as f64;
        launch_each(&VARIANTS[0], self.sequences as usize, Cost { flops: 8.0 * positions, bytes: 12.0 * positions })
    }

    fn twin<T: Real>(&mut self) {
        let weights = Weights { lambda: T::of(self.lambda.into()), paper_tail: self.paper_tail != 0 };
        let starts = &self.starts.u32s()[..=self.sequences as usize];
        let (reward, value, bootstrap) = (self.reward.real::<T>(), self.value.real::<T>(), self.bootstrap.real::<T>());
        let returns = self.returns.real_mut::<T>();
        for (range, &bootstrap) in starts.windows(2).zip(bootstrap) {
            let positions = range[0] as usize..range[1] as usize;
            for_each_return(positions, |t| reward[t], value, bootstrap, weights, |step| returns[step.t] = step.g);
        }
    }
}
