//! The header of a GGUF file: its metadata, and where its tensors are.

use std::io::BufReader;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use gguf_rs_lib::format::GGUFTensorType;
use gguf_rs_lib::format::metadata::Metadata;
use gguf_rs_lib::reader::GGUFFileReader;
use safetensors::Dtype;

use super::blocks::BlockFormat;
use super::metadata::Keys;
use crate::files::open_file;

/// The tensor with what Llama 3's rotary scaling divides frequencies by, which is no weight.
pub const ROPE_FACTORS: &str = "rope_freqs.weight";

/// What a GGUF file says; its values are read by who maps it.
pub struct GgufFile {
    path: PathBuf,
    metadata: Metadata,
    /// In the order of the file, by llama.cpp's names.
    tensors: Vec<GgufTensor>,
}

/// A tensor's place in the file.
#[derive(Clone, Debug)]
pub struct GgufTensor {
    /// llama.cpp's.
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    pub format: ValueFormat,
    pub bytes: Range<usize>,
}

/// How a file stores values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFormat {
    /// Each by itself.
    Plain(Dtype),
    /// In llama.cpp's blocks, row by row.
    Blocks(BlockFormat),
}

impl ValueFormat {
    /// The bytes of so many values.
    pub fn bytes(self, values: usize) -> usize {
        match self {
            Self::Plain(dtype) => values * dtype.bitsize() / 8,
            Self::Blocks(blocks) => values / blocks.values() * blocks.bytes(),
        }
    }

    /// The plain type that takes its place: blocks are widened to bf16.
    pub fn plain(self) -> Dtype {
        match self {
            Self::Plain(dtype) => dtype,
            Self::Blocks(_) => Dtype::BF16,
        }
    }

    fn of(format: GGUFTensorType) -> Result<Self> {
        Ok(match format {
            GGUFTensorType::F32 => Self::Plain(Dtype::F32),
            GGUFTensorType::F64 => Self::Plain(Dtype::F64),
            GGUFTensorType::F16 => Self::Plain(Dtype::F16),
            GGUFTensorType::BF16 => Self::Plain(Dtype::BF16),
            GGUFTensorType::Q4_0 => Self::Blocks(BlockFormat::Q4_0),
            GGUFTensorType::Q4_1 => Self::Blocks(BlockFormat::Q4_1),
            GGUFTensorType::Q5_0 => Self::Blocks(BlockFormat::Q5_0),
            GGUFTensorType::Q5_1 => Self::Blocks(BlockFormat::Q5_1),
            GGUFTensorType::Q8_0 => Self::Blocks(BlockFormat::Q8_0),
            GGUFTensorType::Q4_K => Self::Blocks(BlockFormat::Q4K),
            GGUFTensorType::Q5_K => Self::Blocks(BlockFormat::Q5K),
            GGUFTensorType::Q6_K => Self::Blocks(BlockFormat::Q6K),
            other => bail!(
                "is stored as {}; only F32, F16, BF16, F64, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K are supported",
                other.name()
            ),
        })
    }
}

impl GgufFile {
    /// Reads the header.
    ///
    /// # Errors
    /// Where the file is missing, truncated or inconsistent, or has a tensor of a type that is not supported.
    pub fn open(path: &Path) -> Result<Self> {
        ensure!(path.exists(), "{}: there is no such file", path.display());
        let reader = GGUFFileReader::new(BufReader::new(open_file(path)?))
            .map_err(|error| anyhow::anyhow!("{}: not a whole GGUF file of version 3 ({error})", path.display()))?;
        let start = reader.tensor_data_offset();
        let tensor = |info: &gguf_rs_lib::tensor::TensorInfo| -> Result<GgufTensor> {
            let format =
                ValueFormat::of(info.tensor_type()).with_context(|| format!("{}: {}", path.display(), info.name()))?;
            let size = |&size: &u64| usize::try_from(size).context("its size is beyond this system's");
            let shape = info.shape().dims().iter().rev().map(size).collect::<Result<Vec<_>>>()?;
            let first = usize::try_from(start + info.data_offset())?;
            let bytes = first..first + format.bytes(shape.iter().product());
            Ok(GgufTensor { name: info.name().to_owned(), shape, format, bytes })
        };
        let tensors = reader.tensor_infos().iter().map(tensor).collect::<Result<Vec<_>>>()?;
        let file = Self { path: path.to_owned(), metadata: reader.metadata().clone(), tensors };
        file.refuse_parts()?;
        Ok(file)
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata.
    pub(super) fn keys(&self) -> Keys<'_> {
        Keys(&self.metadata)
    }

    /// The tensors that are weights.
    pub fn weights(&self) -> impl Iterator<Item = &GgufTensor> {
        self.tensors.iter().filter(|tensor| tensor.name != ROPE_FACTORS)
    }

    /// The tensor of this name, llama.cpp's.
    pub(super) fn tensor(&self, name: &str) -> Option<&GgufTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    fn refuse_parts(&self) -> Result<()> {
        let count = self.keys().size("split.count")?.unwrap_or(1);
        ensure!(
            count <= 1,
            "{}: is one of {count} parts of a model; put them together with llama.cpp's llama-gguf-split --merge",
            self.path.display()
        );
        Ok(())
    }
}
