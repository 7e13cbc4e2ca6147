//! Reading weights: memory-mapped safetensors, in one file or in shards, or a GGUF file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::values::{Values, encode};
use crate::device::DType;
use crate::files::{is_gguf, map_file, read_description};
use crate::gguf::{Change, Direction, GgufFile, ValueFormat};

/// The open weight files of a model.
pub struct Checkpoint {
    /// The directory, or the one file.
    model: PathBuf,
    files: Vec<MappedFile>,
    /// By the tensor's name, Hugging Face's.
    places: BTreeMap<String, Place>,
    /// Whether frozen matrices stay in the blocks of a GGUF file.
    keeps_blocks: bool,
}

struct MappedFile {
    path: PathBuf,
    map: Mmap,
    metadata: HashMap<String, String>,
}

/// Where a tensor is, and how.
struct Place {
    file: usize,
    bytes: Range<usize>,
    shape: Vec<usize>,
    format: ValueFormat,
    change: Option<Changed>,
}

/// In what a GGUF file's values differ from what is read of them.
#[derive(Clone, Copy)]
struct Changed {
    change: Change,
    head_dim: usize,
}

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

impl Checkpoint {
    /// Opens `DIR/model.safetensors`, or the shards that `DIR/model.safetensors.index.json` lists, or a GGUF file.
    ///
    /// # Errors
    /// Names the file that is missing, truncated or inconsistent.
    pub fn open(model: &Path) -> Result<Self> {
        let mut checkpoint = Self::of(model);
        if is_gguf(model) {
            checkpoint.add_gguf(model)?;
            return Ok(checkpoint);
        }
        let index = model.join(INDEX);
        if index.exists() {
            for name in shard_names(&index)? {
                checkpoint.add(model.join(&name)).with_context(|| format!("a shard of {}", index.display()))?;
            }
        } else {
            let path = model.join(WEIGHTS);
            ensure!(
                path.exists(),
                "{}: there is no {WEIGHTS} and no {INDEX}; other weight formats are not supported",
                model.display()
            );
            checkpoint.add(path)?;
        }
        Ok(checkpoint)
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    /// Where it is missing, truncated or inconsistent.
    pub fn open_file(path: &Path) -> Result<Self> {
        let mut checkpoint = Self::of(path);
        checkpoint.add(path.to_owned())?;
        Ok(checkpoint)
    }

    fn of(model: &Path) -> Self {
        Self { model: model.to_owned(), files: Vec::new(), places: BTreeMap::new(), keeps_blocks: true }
    }

    /// With frozen matrices left in the blocks that a GGUF file has them in, or widened to what the network asks for.
    pub fn keeping_blocks(self, keeps_blocks: bool) -> Self {
        Self { keeps_blocks, ..self }
    }

    fn add(&mut self, path: PathBuf) -> Result<()> {
        let map = map_file(&path)?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|error| {
            anyhow::anyhow!("{}: not a whole safetensors file ({error}); download it again", path.display())
        })?;
        let data_start = header + 8;
        let file = self.files.len();
        for (name, info) in metadata.tensors() {
            let bytes = data_start + info.data_offsets.0..data_start + info.data_offsets.1;
            let format = ValueFormat::Plain(info.dtype);
            let place = Place { file, bytes, shape: info.shape.clone(), format, change: None };
            if let Some(other) = self.places.insert(name.clone(), place) {
                bail!("{name} is both in {} and in {}", self.files[other.file].path.display(), path.display());
            }
        }
        self.files.push(MappedFile { path, map, metadata: metadata.metadata().clone().unwrap_or_default() });
        Ok(())
    }

    fn add_gguf(&mut self, path: &Path) -> Result<()> {
        let header = GgufFile::open(path)?;
        let map = map_file(path)?;
        let context = || path.display().to_string();
        let (architecture, head_dim) =
            (header.architecture().with_context(context)?, header.head_dim().with_context(context)?);
        for tensor in header.weights() {
            let name = architecture.hugging_face_name(&tensor.name);
            let name = name.with_context(|| {
                format!("{}: {} is not a tensor of a {} model", path.display(), tensor.name, architecture.name)
            })?;
            ensure!(tensor.bytes.end <= map.len(), "{}: is shorter than it was", path.display());
            let change = architecture.change(&name).map(|change| Changed { change, head_dim });
            let (bytes, shape) = (tensor.bytes.clone(), tensor.shape.clone());
            self.places.insert(name, Place { file: 0, bytes, shape, format: tensor.format, change });
        }
        self.files.push(MappedFile { path: path.to_owned(), map, metadata: HashMap::new() });
        Ok(())
    }

    /// The size of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.map.len() as u64).sum()
    }

    /// SHA-256 over the digests of all blocks of all files: what tells two models apart. Every byte is read.
    pub fn digest(&self) -> [u8; 32] {
        const BLOCK: usize = 16 << 20;
        let mut hash = Sha256::new();
        for file in &self.files {
            hash.update((file.map.len() as u64).to_le_bytes());
            let blocks: Vec<_> = file.map.par_chunks(BLOCK).map(Sha256::digest).collect();
            blocks.iter().for_each(|block| hash.update(block));
        }
        hash.finalize().into()
    }

    /// How the matrices are stored: as the first of them is.
    pub fn matrix_format(&self) -> Option<ValueFormat> {
        self.places.values().find(|place| place.shape.len() > 1).map(|place| place.format)
    }

    /// Names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// An entry of the first file's own metadata.
    pub fn metadata(&self, name: &str) -> Option<String> {
        self.files.first()?.metadata.get(name).cloned()
    }

    /// The path of the file that holds a tensor, to name it in errors.
    pub fn path_of(&self, name: &str) -> &Path {
        self.places.get(name).map_or(self.model.as_path(), |place| &self.files[place.file].path)
    }

    /// The values of a tensor that the network has in this shape.
    ///
    /// # Errors
    /// As [`Checkpoint::check_shape`].
    pub fn shaped(&self, name: &str, expected: &[usize]) -> Result<Values<'_>> {
        self.check_shape(name, expected)?;
        Ok(self.tensor(name)?.1)
    }

    /// Checks that the network has a tensor in the shape that it is stored in: before there is room for it, so that nothing is
    /// allocated for what is not in the file.
    ///
    /// # Errors
    /// Where the tensor is missing, has another shape, or a type that is not a float.
    pub fn check_shape(&self, name: &str, expected: &[usize]) -> Result<()> {
        let missing = "; config.json says that the model has it";
        let place = self.place(name).with_context(|| format!("{}{missing}", self.model.display()))?;
        ensure!(
            place.shape == expected,
            "{}: {name} has the shape {:?}, and config.json makes it {expected:?}",
            self.path_of(name).display(),
            place.shape
        );
        Ok(())
    }

    /// The type of a frozen matrix on a device that computes in f32, where the file has it in blocks that are to stay: the same
    /// blocks, or bf16 where kernels have none of the kind.
    pub(super) fn kept_type(&self, name: &str) -> Option<DType> {
        match self.places.get(name)?.format {
            ValueFormat::Blocks(blocks) if self.keeps_blocks => Some(blocks.kept().unwrap_or(DType::Bf16)),
            _ => None,
        }
    }

    /// A tensor's shape and how it is stored; its values are not read.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`].
    pub(super) fn shape_and_format(&self, name: &str) -> Result<(&[usize], ValueFormat)> {
        let place = self.place(name)?;
        let format = place.change.map_or(place.format, |changed| changed.format(place.format));
        Ok((&place.shape, format))
    }

    /// A tensor's shape and values.
    ///
    /// # Errors
    /// Where there is none of this name, or its type is not a float.
    pub fn tensor(&self, name: &str) -> Result<(&[usize], Values<'_>)> {
        let place = self.place(name)?;
        let MappedFile { path, map, .. } = &self.files[place.file];
        let values = Values { data: Cow::Borrowed(&map[place.bytes.clone()]), format: place.format };
        let values = match place.change {
            Some(changed) => {
                changed.undo(values, &place.shape).with_context(|| format!("{}: {name}", path.display()))?
            }
            None => values,
        };
        Ok((&place.shape, values))
    }

    fn place(&self, name: &str) -> Result<&Place> {
        let place = self.places.get(name).with_context(|| format!("the tensor {name} is missing"))?;
        if let ValueFormat::Plain(dtype) = place.format {
            ensure!(
                matches!(dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16 | Dtype::F64),
                "{}: {name} is stored as {dtype:?}; only F32, BF16, F16 and F64 are supported",
                self.path_of(name).display()
            );
        }
        Ok(place)
    }
}

impl Changed {
    /// How the values are stored once it is undone.
    fn format(self, stored: ValueFormat) -> ValueFormat {
        match self.change {
            Change::OneMore => ValueFormat::Plain(Dtype::F32),
            Change::HeadRows => stored,
        }
    }

    /// The values as Hugging Face has them.
    fn undo<'a>(self, values: Values<'a>, shape: &[usize]) -> Result<Values<'a>> {
        let (count, format) = (shape.iter().product(), self.format(values.format));
        match self.change {
            Change::OneMore => {
                // In f32, as they were added.
                let less = values.range(0, count).map(|value| f64::from(value as f32 + Direction::FromGguf.addend()));
                let data = encode(less, Dtype::F32);
                Ok(Values { data: data.into(), format })
            }
            Change::HeadRows => {
                let (rows, head_dim) = (shape[0], self.head_dim);
                let is_whole = rows > 0 && head_dim.is_multiple_of(2) && rows.is_multiple_of(head_dim);
                ensure!(is_whole, "{rows} rows are not whole heads of an even width, {head_dim}");
                let row_bytes = values.format.bytes(count / rows);
                let data = Direction::FromGguf.reorder(&values.data, row_bytes, self.head_dim);
                Ok(Values { data: data.into(), format })
            }
        }
    }
}

/// The files that an index lists, each once. They must be bare names: an index does not reach out of its directory.
fn shard_names(index: &Path) -> Result<Vec<String>> {
    let text = read_description(index)?;
    let json: Value = serde_json::from_str(&text).with_context(|| format!("{}: not JSON", index.display()))?;
    let map = json.get("weight_map").and_then(Value::as_object);
    let map = map.with_context(|| format!("{}: weight_map is missing", index.display()))?;
    let mut names = Vec::new();
    for (tensor, name) in map {
        let name = name.as_str().with_context(|| format!("{}: the file of {tensor} is not a name", index.display()))?;
        let bare = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0']);
        ensure!(bare, "{}: the file of {tensor} is {name:?}, which is not a bare file name", index.display());
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
