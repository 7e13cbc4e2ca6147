use anyhow::Result;

use super::case::{Case, Work, bounds, lengths_label};
use crate::device::{Call, DType, Device, MatmulPrecision, Precision, Tensor};
use crate::gpu::Signature;
use crate::kernels::{Attention, AttentionBackwardDelta, Heads, OutputGradient, Projections, Sequences, SplitRoom};

/// Sequences that stand end to end, and the heads that attend over them.
#[derive(Clone, Copy)]
pub(super) struct Packed {
    pub lengths: &'static [usize],
    pub heads: Heads,
    /// The most tokens that one sees.
    pub window: Option<usize>,
}

/// As [`Packed`], without a window.
pub(super) const fn packed(lengths: &'static [usize], [heads, kv_heads, head_dim]: [usize; 3]) -> Packed {
    Packed { lengths, heads: Heads { heads, kv_heads, head_dim }, window: None }
}

/// As [`packed`], where a token sees so many.
const fn windowed(lengths: &'static [usize], heads: [usize; 3], window: usize) -> Packed {
    Packed { window: Some(window), ..packed(lengths, heads) }
}

impl Packed {
    pub fn tokens(self) -> usize {
        self.lengths.iter().sum()
    }

    pub fn sequences(self, bounds: &Tensor) -> Sequences<'_> {
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        Sequences { bounds, tokens: self.tokens(), longest, window: self.window }
    }

    /// Of tensors as they are.
    fn projections<'a>(self, q: &'a Tensor, k: &'a Tensor, v: &'a Tensor) -> Projections<'a> {
        Projections { q, k, v, scale: self.heads.scale(), precision: MatmulPrecision::Highest }
    }

    /// Room for parts of the operands, where the device splits them.
    fn room(self, device: &Device) -> Option<SplitRoom> {
        let make = |name: &str, words| device.tensor(name, &[words], DType::U32);
        SplitRoom::new(device, self.heads, self.tokens(), true, make).expect("the device has room for a case")
    }

    /// Runs a backward pass over its inputs, and what it writes: as they are, or in parts where the device splits them.
    pub fn run_backward(
        self,
        device: &Device,
        tensors: &mut [Tensor],
        run: impl FnOnce(Sequences, Projections, OutputGradient, &mut [Tensor]),
    ) {
        let ([bounds, q, k, v, dout, row_statistics], outputs) = tensors.split_first_chunk_mut().expect("the inputs");
        let (sequences, mut room) = (self.sequences(bounds), self.room(device));
        let mut projections = self.projections(q, k, v);
        let mut output = OutputGradient { dout, row_statistics };
        if let Some(SplitRoom { projections: room, dout: Some(room_of_dout) }) = &mut room {
            projections = projections.split(device, self.heads, sequences, room);
            output = output.split(device, self.heads, self.tokens(), projections.precision, room_of_dout);
        }
        run(sequences, projections, output, outputs);
    }

    /// Whether a probability is not 1. Where all are there is no gradient; what is computed in its place is rounding.
    pub fn has_gradient(self) -> bool {
        self.lengths.iter().any(|&length| length > 1) && self.window != Some(1)
    }

    fn label(self) -> String {
        let Heads { heads, kv_heads, head_dim } = self.heads;
        let window = self.window.map_or(String::new(), |window| format!(", window {window}"));
        format!("{}, {heads}/{kv_heads} heads of {head_dim}{window}", lengths_label(self.lengths))
    }

    /// Two operations for each value of a head and each pair of a query and a key it sees.
    fn pair_flops(self) -> f64 {
        let window = self.window.unwrap_or(usize::MAX);
        let pairs: usize = self.lengths.iter().flat_map(|&length| 1..=length).map(|keys| keys.min(window)).sum();
        2.0 * (pairs * self.heads.heads * self.heads.head_dim) as f64
    }
}

/// Attention; queries and keys between `-range` and `range`.
fn case(packed: Packed, range: f64) -> Case {
    let tokens = packed.tokens();
    let Heads { heads: h, kv_heads: g, head_dim: d } = packed.heads;
    let shape = format!("{}, +-{range}", packed.label());
    Case::new(Attention::SIGNATURE, shape, Work::Flops(2.0 * packed.pair_flops()))
        .u32s("bounds", bounds(packed.lengths))
        .scaled("q", &[tokens, h, d], range)
        .scaled("k", &[tokens, g, d], range)
        .input("v", &[tokens, g, d])
        .output("o", &[tokens, h, d])
        .output("lse", &[tokens, h])
        .run(move |device, tensors| {
            let [bounds, q, k, v, o, lse] = tensors else { unreachable!() };
            let (sequences, mut room) = (packed.sequences(bounds), packed.room(device));
            let mut projections = packed.projections(q, k, v);
            if let Some(room) = &mut room {
                projections = projections.split(device, packed.heads, sequences, &mut room.projections);
            }
            Attention::run(device, packed.heads, sequences, projections, o, lse);
        })
}

/// [`backward`] or [`large_backward`].
pub(super) type Backward = fn(&'static Signature, f64, Packed) -> Case;

/// The inputs of a backward pass: bounds, q, k, v, dout, and lse and delta of a forward pass. It does `flops` operations for each
/// pair of a query and a key and each value of a head.
pub(super) fn backward(signature: &'static Signature, flops: f64, packed: Packed) -> Case {
    let case = projections(signature, flops, packed);
    let statistics = row_statistics(&case, packed).expect("the CPU device has room for a case");
    with_statistics(case, packed.heads, statistics)
}

/// As [`backward`], of sequences that are too long to compute forward first: lse is what it is on average where queries and
/// keys are uniform between -1 and 1, delta is 0.
pub(super) fn large_backward(signature: &'static Signature, flops: f64, packed: Packed) -> Case {
    const VARIANCE: f64 = 1.0 / 9.0; // of a score: 1/3 of a value of q and of k each, over all of a head, by scale^2
    let window = packed.window.unwrap_or(usize::MAX);
    let keys = packed.lengths.iter().flat_map(|&length| 1..=length).map(|keys| keys.min(window));
    let of_token = |keys: usize| std::iter::repeat_n([(keys as f64).ln() + VARIANCE / 2.0, 0.0], packed.heads.heads);
    let statistics = keys.flat_map(of_token).flatten().collect();
    with_statistics(projections(signature, flops, packed), packed.heads, statistics)
}

fn with_statistics(case: Case, heads: Heads, statistics: Vec<f64>) -> Case {
    let tokens = statistics.len() / (2 * heads.heads);
    let statistics = statistics.into_iter().map(|value| f64::from(value as f32)).collect();
    case.floats("row_statistics", &[tokens, heads.heads, 2], DType::Real, statistics)
}

/// The inputs of [`backward`] but for the rows' statistics.
fn projections(signature: &'static Signature, flops: f64, packed: Packed) -> Case {
    let tokens = packed.tokens();
    let Heads { heads: h, kv_heads: g, head_dim: d } = packed.heads;
    Case::new(signature, packed.label(), Work::Flops(flops / 2.0 * packed.pair_flops()))
        .u32s("bounds", bounds(packed.lengths))
        .input("q", &[tokens, h, d])
        .input("k", &[tokens, g, d])
        .input("v", &[tokens, g, d])
        .input("dout", &[tokens, h, d])
}

/// `(lse, delta)` of the forward pass over the tensors of a backward case so far, from the f64 twins.
fn row_statistics(case: &Case, packed: Packed) -> Result<Vec<f64>> {
    let device = Device::cpu(Precision::F64);
    let tensors = case.tensors(&device)?;
    let [bounds, q, k, v, dout] = &tensors[..] else { unreachable!() };
    let rows = packed.tokens() * packed.heads.heads;
    let mut o = device.tensor("o", dout.shape(), DType::Real)?;
    let mut lse = device.tensor("lse", &[rows], DType::Real)?;
    let mut row_statistics = device.tensor("row_statistics", &[rows, 2], DType::Real)?;
    let projections = packed.projections(q, k, v);
    Attention::run(&device, packed.heads, packed.sequences(bounds), projections, &mut o, &mut lse);
    device.run(AttentionBackwardDelta {
        o: &o,
        dout,
        lse: &lse,
        row_statistics: &mut row_statistics,
        rows: rows as u32,
        head_dim: packed.heads.head_dim as u32,
    });
    row_statistics.read(2 * rows)
}

/// What every attention kernel is tested on. Windows end within a tile, at its end, and before a sequence begins.
pub(super) const SHAPES: [Packed; 13] = [
    packed(&[1], [1, 1, 4]),
    packed(&[37, 1, 60], [6, 2, 12]),
    packed(&[5, 31, 32, 33, 64, 3], [2, 2, 32]),
    packed(&[130], [3, 1, 64]),
    packed(&[40, 50], [4, 1, 100]),
    packed(&[70], [2, 1, 256]),
    packed(&[35], [2, 1, 96]),
    packed(&[35], [2, 1, 128]),
    packed(&[133], [2, 1, 128]),
    windowed(&[37, 1, 60, 140], [6, 2, 12], 5),
    windowed(&[200], [2, 1, 64], 32),
    windowed(&[7, 170], [2, 1, 32], 100),
    windowed(&[40, 33], [2, 1, 32], 1),
];

/// What is tested.
pub fn tests() -> Vec<Case> {
    let ordinary = SHAPES.map(|packed| case(packed, 1.0));
    // A score of 2000 has 2000 * 2^-24 = 1e-4 of absolute precision in f32, and exp makes that a relative error.
    let steep = case(packed(&[37, 60], [2, 1, 64]), 30.0).within(3e-4);
    ordinary.into_iter().chain([steep]).collect()
}

/// The row of the table of every attention kernel.
pub(super) const BENCH: Packed = packed(&[128; 8], [9, 3, 64]);

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(BENCH, 1.0)]
}

/// Heads of Qwen2-0.5B.
const SMALL: [usize; 3] = [14, 2, 64];

/// Heads of Qwen2-7B.
const LARGER: [usize; 3] = [28, 4, 128];

pub(super) const SMALL_HEADS: Heads = packed(&[], SMALL).heads;
pub(super) const LARGE_HEADS: Heads = packed(&[], LARGER).heads;

/// The large rows of attention and its gradients; the last has the window of Gemma 3.
pub(super) const LARGE: [Packed; 6] = [
    packed(&[512; 8], SMALL),
    packed(&[2048], SMALL),
    packed(&[8192], SMALL),
    packed(&[2048], LARGER),
    packed(&[8192], LARGER),
    windowed(&[8192], SMALL, 512),
];

/// The large rows of the table.
pub fn large() -> impl Iterator<Item = Case> {
    LARGE.into_iter().map(|packed| case(packed, 1.0))
}
