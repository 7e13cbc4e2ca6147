//! A weight matrix or vector: its values, its gradient, and its cut into shards that the device can bind.

use std::sync::Arc;

use anyhow::Result;

use super::values::Values;
use crate::device::{DType, Device, MAX_ELEMENTS, Tensor};
use crate::gguf::BlockFormat;

/// How a model's matrices are stored, and whether they are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// `Real`, `Bf16`, or in blocks, which are frozen. Vectors (norm weights, biases, a value head) are `Real` always.
    pub dtype: DType,
    /// The type of the matrices beside the linear layers, embedding and head, where it is chosen: of blocks Q8 alone.
    pub head: Option<DType>,
    /// Whether there are gradients.
    pub trainable: bool,
}

impl Storage {
    /// Of matrices that are all frozen.
    pub fn frozen(dtype: DType) -> Self {
        Self { dtype, head: None, trainable: false }
    }

    /// Of matrices that are all trained.
    pub fn trained(dtype: DType) -> Self {
        Self { dtype, head: None, trainable: true }
    }

    /// The type of a matrix beside the linear layers, which keep some of a file's blocks where `keeps_blocks`: bf16 beside blocks,
    /// where it is not chosen.
    pub fn beside_layers(self, keeps_blocks: bool) -> DType {
        let beside_blocks = keeps_blocks || self.dtype.is_in_blocks();
        self.head.unwrap_or(if beside_blocks { DType::Bf16 } else { self.dtype })
    }
}

/// A named weight.
///
/// A matrix is cut into shards of whole rows where it is larger than the device can bind. The rows of the last shard
/// and the columns are filled up with zeros to a multiple of 4, so that kernels can take four at a time; these stay zero.
pub struct Parameter {
    name: String,
    shape: Vec<usize>,
    shards: Vec<Shard>,
}

/// Some rows of a weight.
pub struct Shard {
    /// The first row.
    pub first_row: usize,
    /// Rows that exist.
    pub rows: usize,
    /// `[rows filled up to a multiple of 4, cols filled up so]`, or `[len]`
    pub weight: Arc<Tensor>,
    /// As `weight`, in the device's precision; only where the weight is trained.
    pub gradient: Option<Tensor>,
}

impl Shard {
    /// The values and the gradient, to be written.
    ///
    /// # Panics
    /// Where another network shares the values: those are frozen.
    pub fn parts_mut(&mut self) -> (&mut Tensor, Option<&mut Tensor>) {
        let weight = Arc::get_mut(&mut self.weight).expect("a weight that is written is one network's own");
        (weight, self.gradient.as_mut())
    }
}

impl Parameter {
    /// A zeroed weight. `model` is the first part of its tensors' names: `policy`, `value`, ...
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(device: &Device, model: &str, name: &str, shape: &[usize], storage: Storage) -> Result<Self> {
        if let [rows, cols] = *shape
            && rows > 1
        {
            return Self::matrix(device, model, name, [rows, cols], storage);
        }
        Self::allocate(device, model, name, shape, [1, shape.iter().product()], storage)
    }

    /// As [`Parameter::new`], of a matrix that may have a single row.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn matrix(device: &Device, model: &str, name: &str, shape: [usize; 2], storage: Storage) -> Result<Self> {
        let filled = shape.map(|size| size.next_multiple_of(4));
        Self::allocate(device, model, name, &shape, filled, storage)
    }

    fn allocate(
        device: &Device,
        model: &str,
        name: &str,
        shape: &[usize],
        [filled_rows, cols]: [usize; 2],
        storage: Storage,
    ) -> Result<Self> {
        let is_vector = filled_rows == 1;
        let rows = if is_vector { 1 } else { shape[0] };
        let dtype = if is_vector { DType::Real } else { storage.dtype };
        let is_in_blocks = dtype.is_in_blocks();
        assert!(!is_in_blocks || !storage.trainable, "{name}: a matrix in blocks is not trained");
        assert!(!is_in_blocks || shape.last() == Some(&cols), "{name}: rows in blocks are not filled up");
        // The gradient, where there is one, is the largest of what belongs to a row. A shard begins with a block: rows are whole
        // fours, and as many of these as a block has are whole blocks.
        let largest = if storage.trainable { DType::Real } else { dtype };
        let unit = (dtype.block_len() / 4).max(4);
        let unit_bytes = largest.bytes(unit * cols, device.precision()) as u64;
        let bound = usize::try_from(device.limits().tensor_bytes / unit_bytes.max(1)).unwrap_or(usize::MAX);
        let fitting = bound.min(MAX_ELEMENTS / (unit * cols).max(1));
        let shard_rows = if is_vector { 1 } else { unit * fitting.max(1) };

        let mut shards = Vec::new();
        for first_row in (0..rows).step_by(shard_rows) {
            let rows = shard_rows.min(rows - first_row);
            let filled = if is_vector { vec![cols] } else { vec![rows.next_multiple_of(4), cols] };
            let part = if first_row == 0 { String::new() } else { format!("[{first_row}..]") };
            let weight = device.tensor(format!("{model}/weights/{name}{part}"), &filled, dtype)?;
            let gradient = if storage.trainable {
                Some(device.tensor(format!("{model}/gradients/{name}{part}"), &filled, DType::Real)?)
            } else {
                None
            };
            shards.push(Shard { first_row, rows, weight: Arc::new(weight), gradient });
        }
        Ok(Self { name: name.to_owned(), shape: shape.to_vec(), shards })
    }

    /// The tensor's name in the checkpoint.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tensor's shape in the checkpoint.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Rows of a matrix; 1 of a vector.
    pub fn rows(&self) -> usize {
        if let [rows, _] = self.shape[..] { rows } else { 1 }
    }

    /// Columns of a matrix; the length of a vector.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// From one row of a shard's tensors to the next.
    pub fn stride(&self) -> usize {
        let [.., stride] = *self.shards[0].weight.shape() else { return self.cols() };
        stride
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parts, first rows first.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The parts, to be written.
    pub fn shards_mut(&mut self) -> &mut [Shard] {
        &mut self.shards
    }

    /// A vector's values, which are never cut.
    pub fn vector(&self) -> &Tensor {
        &self.shards[0].weight
    }

    /// A vector's gradient, where it is trained.
    pub fn vector_gradient(&mut self) -> Option<&mut Tensor> {
        self.shards[0].gradient.as_mut()
    }

    /// Whether there are gradients.
    pub fn is_trained(&self) -> bool {
        self.shards[0].gradient.is_some()
    }

    /// The same values for another network: the tensors exist once. They are frozen from now on.
    pub fn share(&self) -> Self {
        let share = |shard: &Shard| Shard { weight: shard.weight.clone(), gradient: None, ..*shard };
        Self { name: self.name.clone(), shape: self.shape.clone(), shards: self.shards.iter().map(share).collect() }
    }

    /// Writes all values, row by row.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn write(&mut self, values: &Values) -> Result<()> {
        if let Some(blocks) = values.blocks_of(self.shards[0].weight.dtype()) {
            return self.write_blocks(values, blocks);
        }
        self.write_with(|first, count| values.range(first, count))
    }

    /// Blocks as they are.
    fn write_blocks(&mut self, values: &Values, blocks: BlockFormat) -> Result<()> {
        let bytes_of_row = self.cols() / blocks.values() * blocks.bytes();
        for shard in &mut self.shards {
            let (first, rows) = (shard.first_row * bytes_of_row, shard.rows * bytes_of_row);
            shard.parts_mut().0.write_blocks(0, &values.bytes()[first..first + rows])?;
        }
        Ok(())
    }

    /// As [`Parameter::write`], `values(first, count)` being `count` of the values from `first` on.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn write_with<I: ExactSizeIterator<Item = f64>>(&mut self, values: impl Fn(usize, usize) -> I) -> Result<()> {
        let (cols, stride) = (self.cols(), self.stride());
        for shard in &mut self.shards {
            let (first_row, rows) = (shard.first_row, shard.rows);
            let (weight, _) = shard.parts_mut();
            // Rows that are not filled up stand end to end.
            let (runs, rows) = if stride == cols { (1, rows) } else { (rows, 1) };
            for run in 0..runs {
                weight.write(run * stride, values((first_row + run) * cols, rows * cols))?;
            }
        }
        Ok(())
    }
}
