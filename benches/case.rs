//! One call of a kernel on made-up data: the same case is a test (against the f64 twin) and a bench row.

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::random_blocks::random_blocks;
use crate::device::{DType, Device, Tensor};
use crate::gpu::Signature;
use crate::kernels::Tile;

/// What limits a kernel: the bench reports its share of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Floating-point operations, held against the adapter's FMA peak.
    Flops(f64),
    /// Bytes moved at least, held against the adapter's copy bandwidth.
    Bytes(f64),
}

/// Values of a tensor before the call; where it is longer, they stand in it again and again.
enum Fill {
    Floats(DType, Vec<f64>),
    /// Whole blocks as files have them.
    Blocks(DType, Vec<u8>),
    Indices(Vec<u32>),
}

struct Input {
    name: &'static str,
    shape: Vec<usize>,
    fill: Fill,
    is_output: bool,
}

type Run = Box<dyn Fn(&Device, &mut [Tensor])>;

/// What a case may be off by where it does not say otherwise, relative as in [`relative_error`]: sums of some thousand
/// terms of both signs, each rounded to 6e-8, and an exp that some adapters give to 16 units in the last place.
pub const TOLERANCE: f64 = 1e-5;

/// Values that are made of a tensor at most: what a longer one has is these again. Of whole words of bf16 and whole blocks, and no
/// multiple of a row, so that rows differ.
const DISTINCT: usize = 64 * 65_537;

/// How a matrix may be stored.
pub const MATRIX_TYPES: [DType; 7] =
    [DType::Real, DType::Bf16, DType::Q8, DType::Q4, DType::Q40, DType::Q4K, DType::Q6K];

/// The types that products are tested of in tiles that a shape would not have. Those that are read from files alone differ from the
/// others in what unpacks them, which a tile that long products have shows.
pub fn types_in_tiles(tile: Tile) -> &'static [DType] {
    const TYPES: [DType; 6] = [DType::Real, DType::Q8, DType::Q4, DType::Q40, DType::Q4K, DType::Q6K];
    if tile == Tile::of(1 << 16, 1 << 16) { &TYPES } else { &TYPES[..3] }
}

/// A kernel, its tensors in the order that its closure takes them, and the call.
pub struct Case {
    /// The kernel's name.
    pub kernel: &'static str,
    /// What it computes.
    pub formula: String,
    /// The sizes, as shown in tables and failures.
    pub shape: String,
    /// What the call has to do at least.
    pub work: Work,
    /// What an output may be off by, relative as in [`relative_error`].
    pub tolerance: f64,
    tensors: Vec<Input>,
    run: Option<Run>,
    rng: ChaCha8Rng,
}

/// An output of a case on some device, widened.
pub struct Output {
    /// The tensor's name.
    pub name: &'static str,
    /// Its elements.
    pub values: Vec<f64>,
}

impl Case {
    /// A case without tensors yet. The data depends on the kernel's name and the sizes alone.
    pub fn new(signature: &'static Signature, shape: String, work: Work) -> Self {
        let seed = signature
            .name
            .bytes()
            .chain(shape.bytes())
            .fold(7u64, |seed, byte| seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte));
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let formula = signature.formula();
        let tolerance = TOLERANCE;
        Self { kernel: signature.name, formula, shape, work, tolerance, tensors: Vec::new(), run: None, rng }
    }

    /// The case with another tolerance than [`TOLERANCE`].
    pub fn within(self, tolerance: f64) -> Self {
        Self { tolerance, ..self }
    }

    /// Values between -1 and 1, representable in f32; of some million those that are repeated.
    pub fn uniform(&mut self, count: usize) -> Vec<f64> {
        (0..count.min(DISTINCT)).map(|_| f64::from(self.rng.random_range(-1.0f32..1.0))).collect()
    }

    /// Indices below `end`.
    pub fn indices(&mut self, count: usize, end: usize) -> Vec<u32> {
        (0..count).map(|_| self.rng.random_range(0..end as u32)).collect()
    }

    /// An input of values between -1 and 1.
    pub fn input(mut self, name: &'static str, shape: &[usize]) -> Self {
        let values = self.uniform(shape.iter().product());
        self.floats(name, shape, DType::Real, values)
    }

    /// An input of values between `-range` and `range`.
    pub fn scaled(mut self, name: &'static str, shape: &[usize], range: f64) -> Self {
        let values = self.uniform(shape.iter().product());
        let values = values.into_iter().map(|x| f64::from((x * range) as f32)).collect();
        self.floats(name, shape, DType::Real, values)
    }

    /// An input of these values, stored as `dtype`; fewer are repeated.
    pub fn floats(mut self, name: &'static str, shape: &[usize], dtype: DType, values: Vec<f64>) -> Self {
        self.tensors.push(Input { name, shape: shape.to_vec(), fill: Fill::Floats(dtype, values), is_output: false });
        self
    }

    /// An input of values about between -1 and 1, stored as `dtype`; of some million those that are repeated.
    pub fn matrix(mut self, name: &'static str, shape: &[usize], dtype: DType) -> Self {
        let count: usize = shape.iter().product();
        let fill = match dtype {
            DType::Q40 | DType::Q4K | DType::Q6K => {
                let blocks = count.min(DISTINCT).div_ceil(dtype.block_len());
                Fill::Blocks(dtype, random_blocks(&mut self.rng, dtype, blocks))
            }
            _ => Fill::Floats(dtype, self.uniform(count)),
        };
        self.tensors.push(Input { name, shape: shape.to_vec(), fill, is_output: false });
        self
    }

    /// An input of indices.
    pub fn u32s(mut self, name: &'static str, values: Vec<u32>) -> Self {
        let shape = vec![values.len()];
        self.tensors.push(Input { name, shape, fill: Fill::Indices(values), is_output: false });
        self
    }

    /// An output. It is filled with values first, so that an element that is not written, or not read where the
    /// kernel adds, shows.
    pub fn output(mut self, name: &'static str, shape: &[usize]) -> Self {
        self = self.input(name, shape);
        if let Some(last) = self.tensors.last_mut() {
            last.is_output = true;
        }
        self
    }

    /// Makes the last input an output too: a tensor that is updated in place.
    pub fn in_place(mut self) -> Self {
        if let Some(last) = self.tensors.last_mut() {
            last.is_output = true;
        }
        self
    }

    /// The call, on the tensors in the order they were declared.
    pub fn run(mut self, run: impl Fn(&Device, &mut [Tensor]) + 'static) -> Self {
        self.run = Some(Box::new(run));
        self
    }

    /// The case's tensors, filled, on a device.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn tensors(&self, device: &Device) -> Result<Vec<Tensor>> {
        let make = |input: &Input| {
            let dtype = match &input.fill {
                Fill::Floats(dtype, _) | Fill::Blocks(dtype, _) => *dtype,
                Fill::Indices(_) => DType::U32,
            };
            let mut tensor = device.tensor(input.name, &input.shape, dtype)?;
            match &input.fill {
                Fill::Floats(_, values) => {
                    for first in (0..tensor.len()).step_by(values.len().max(1)) {
                        let count = values.len().min(tensor.len() - first);
                        tensor.write(first, values[..count].iter().copied())?;
                    }
                }
                Fill::Blocks(dtype, raw) => {
                    let bytes = dtype.file_block_bytes().unwrap_or(1);
                    let blocks = tensor.len().div_ceil(dtype.block_len());
                    for first in (0..blocks).step_by((raw.len() / bytes).max(1)) {
                        let count = (raw.len() / bytes).min(blocks - first);
                        tensor.write_blocks(first * dtype.block_len(), &raw[..count * bytes])?;
                    }
                }
                Fill::Indices(values) => tensor.write_u32(0, values)?,
            }
            Ok(tensor)
        };
        self.tensors.iter().map(make).collect()
    }

    /// Makes the call once.
    pub fn call(&self, device: &Device, tensors: &mut [Tensor]) {
        if let Some(run) = &self.run {
            run(device, tensors);
        }
    }

    /// Fills the tensors, makes the call and reads the outputs.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn outputs(&self, device: &Device) -> Result<Vec<Output>> {
        let mut tensors = self.tensors(device)?;
        self.call(device, &mut tensors);
        let outputs = self.tensors.iter().zip(&tensors).filter(|(input, _)| input.is_output);
        outputs.map(|(input, tensor)| Ok(Output { name: input.name, values: tensor.read(tensor.len())? })).collect()
    }
}

/// Where sequences of these lengths start when they stand end to end, and where the last one ends.
pub fn starts(lengths: &[usize]) -> Vec<u32> {
    let ends = lengths.iter().scan(0, |end, length| {
        *end += *length as u32;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

/// For every token of such sequences, the start and the end of its own.
pub fn bounds(lengths: &[usize]) -> Vec<u32> {
    let starts = starts(lengths);
    starts.windows(2).flat_map(|range| (range[0]..range[1]).flat_map(|_| [range[0], range[1]])).collect()
}

/// `8 x 128` or the lengths themselves.
pub fn lengths_label(lengths: &[usize]) -> String {
    match lengths {
        [first, rest @ ..] if rest.len() > 1 && rest.iter().all(|n| n == first) => {
            format!("{} x {first}", lengths.len())
        }
        _ => format!("{lengths:?}"),
    }
}

/// The largest error of `values` against `reference`, each relative to the larger of the reference's element and the
/// reference's root mean square; infinite where a value is not finite.
pub fn relative_error(values: &[f64], reference: &[f64]) -> f64 {
    assert_eq!(values.len(), reference.len());
    let mean_square = reference.iter().map(|r| r * r).sum::<f64>() / reference.len().max(1) as f64;
    let floor = mean_square.sqrt().max(f64::MIN_POSITIVE);
    let error = |(value, reference): (&f64, &f64)| {
        if value.is_finite() { (value - reference).abs() / reference.abs().max(floor) } else { f64::INFINITY }
    };
    values.iter().zip(reference).map(error).fold(0.0, f64::max)
}
