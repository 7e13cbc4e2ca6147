//! The lambda-return by a thread a row, to hold the parallel scan of `lambda_return` against.

use super::case::{Case, Work, lengths_label, starts};
use crate::device::{Call, Kernel, Real, kernel};
use crate::gpu::{Cost, Launch, Traits, Variant, line};
use crate::kernels::{Weights, for_each_return, only, shared};

static VARIANTS: [Variant; 1] = only(include_str!("serial_return.wgsl"), &[shared::GRID]);

kernel! {
    /// The same by a thread a row, to hold the scan against.
    pub struct SerialReturn in "serial_return" of VARIANTS {
        /// `[sequences + 1]`
        index starts,
        /// `[positions]`
        read reward,
        /// `[positions]`
        read value,
        /// `[sequences]`
        read bootstrap,
        /// `[positions]`
        write returns,
        ;
        sequences: u32,
        lambda: f32,
        /// Positions from each sequence's end that earlier calls have done.
        skip: u32,
    }
}

/// Positions of a call, as in the shader.
const SPAN: usize = 32768;

impl Kernel for SerialReturn<'_> {
    fn check(&self) {}

    fn launch(&self, _: Traits) -> Launch {
        let workgroups = line((self.sequences as usize).div_ceil(64));
        Launch { variant: &VARIANTS[0], constants: Vec::new(), workgroups, cost: Cost::default() }
    }

    fn twin<T: Real>(&mut self) {
        let weights = Weights { lambda: T::of(self.lambda.into()), paper_tail: false };
        let (reward, value, bootstrap) = (self.reward.real::<T>(), self.value.real::<T>(), self.bootstrap.real::<T>());
        let returns = self.returns.real_mut::<T>();
        // The twin does all in the first call.
        let ranges = self.starts.u32s().windows(2).take(if self.skip == 0 { self.sequences as usize } else { 0 });
        for (range, &bootstrap) in ranges.zip(bootstrap) {
            let positions = range[0] as usize..range[1] as usize;
            for_each_return(positions, |t| reward[t], value, bootstrap, weights, |step| returns[step.t] = step.g);
        }
    }
}

fn case(lengths: &[usize], lambda: f32) -> Case {
    let (positions, sequences) = (lengths.iter().sum(), lengths.len());
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let shape = format!("{}, lambda {lambda}", lengths_label(lengths));
    Case::new(SerialReturn::SIGNATURE, shape, Work::Bytes(12.0 * positions as f64))
        .u32s("starts", starts(lengths))
        .input("reward", &[positions])
        .input("value", &[positions])
        .input("bootstrap", &[sequences])
        .output("returns", &[positions])
        .run(move |device, tensors| {
            let [starts, reward, value, bootstrap, returns] = tensors else { unreachable!() };
            let [starts, reward, value, bootstrap] = [&*starts, reward, value, bootstrap];
            for skip in (0..longest).step_by(SPAN) {
                let (returns, sequences, skip) = (&mut *returns, sequences as u32, skip as u32);
                device.run(SerialReturn { starts, reward, value, bootstrap, returns, sequences, lambda, skip });
            }
        })
}

/// The rows of the table: those of `lambda_return`.
pub fn bench() -> Vec<Case> {
    vec![case(&[4096; 512], 0.95), case(&[100_000], 0.95)]
}
