//! Reading weights: memory-mapped safetensors, in one file or in shards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata, SafeTensors};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::values::Values;
use crate::files::{open_file, read_description};

/// The open weight files of a model directory.
pub struct Checkpoint {
    dir: PathBuf,
    files: Vec<MappedFile>,
    /// Tensor name to its file in `files`.
    places: BTreeMap<String, usize>,
}

struct MappedFile {
    path: PathBuf,
    map: Mmap,
    data_start: usize,
    metadata: Metadata,
}

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

impl Checkpoint {
    /// Opens `DIR/model.safetensors`, or the shards that `DIR/model.safetensors.index.json` lists.
    ///
    /// # Errors
    /// Names the file that is missing, truncated or inconsistent.
    pub fn open(dir: &Path) -> Result<Self> {
        let index = dir.join(INDEX);
        let mut checkpoint = Self { dir: dir.to_owned(), files: Vec::new(), places: BTreeMap::new() };
        if index.exists() {
            for name in shard_names(&index)? {
                checkpoint.add(dir.join(&name)).with_context(|| format!("a shard of {}", index.display()))?;
            }
        } else {
            let path = dir.join(WEIGHTS);
            ensure!(
                path.exists(),
                "{}: there is no {WEIGHTS} and no {INDEX}; other weight formats are not supported",
                dir.display()
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
        let mut checkpoint = Self { dir: path.to_owned(), files: Vec::new(), places: BTreeMap::new() };
        checkpoint.add(path.to_owned())?;
        Ok(checkpoint)
    }

    fn add(&mut self, path: PathBuf) -> Result<()> {
        let file = open_file(&path)?;
        // SAFETY: the map is read as bytes and nothing else. A file that another program truncates meanwhile ends the
        // process with a signal, as with any reader of memory-mapped weights; nothing is written through it.
        let map = unsafe { Mmap::map(&file) }.with_context(|| format!("{}: cannot be mapped", path.display()))?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|error| {
            anyhow::anyhow!("{}: not a whole safetensors file ({error}); download it again", path.display())
        })?;
        let data_start = header + 8;
        let file = self.files.len();
        for name in metadata.tensors().keys() {
            if let Some(other) = self.places.insert(name.clone(), file) {
                bail!("{name} is both in {} and in {}", self.files[other].path.display(), path.display());
            }
        }
        self.files.push(MappedFile { path, map, data_start, metadata });
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
    pub fn matrix_dtype(&self) -> Option<Dtype> {
        let info = |(name, file): (&String, &usize)| self.files[*file].metadata.info(name);
        self.places.iter().filter_map(info).find(|tensor| tensor.shape.len() > 1).map(|tensor| tensor.dtype)
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
        self.files.first()?.metadata.metadata().as_ref()?.get(name).cloned()
    }

    /// The path of the file that holds a tensor, to name it in errors.
    pub fn path_of(&self, name: &str) -> &Path {
        self.places.get(name).map_or(self.dir.as_path(), |&file| &self.files[file].path)
    }

    /// The values of a tensor that the network has in this shape: asked for before there is room for them, so that nothing
    /// is allocated for what is not in the file.
    ///
    /// # Errors
    /// Where the tensor is missing, has another shape, or a type that is not a float.
    pub fn shaped(&self, name: &str, expected: &[usize]) -> Result<Values<'_>> {
        let missing = "; config.json says that the model has it";
        let (shape, values) = self.tensor(name).with_context(|| format!("{}{missing}", self.dir.display()))?;
        ensure!(
            shape == expected,
            "{}: {name} has the shape {shape:?}, and config.json makes it {expected:?}",
            self.path_of(name).display()
        );
        Ok(values)
    }

    /// A tensor's shape and values.
    ///
    /// # Errors
    /// Where there is none of this name, or its type is not a float.
    pub fn tensor(&self, name: &str) -> Result<(&[usize], Values<'_>)> {
        let file = self.places.get(name).with_context(|| format!("the tensor {name} is missing"))?;
        let MappedFile { path, map, data_start, metadata } = &self.files[*file];
        let info = metadata.info(name).context("listed above")?;
        let data = &map[data_start + info.data_offsets.0..data_start + info.data_offsets.1];
        ensure!(
            matches!(info.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16 | Dtype::F64),
            "{}: {name} is stored as {:?}; only F32, BF16, F16 and F64 are supported",
            path.display(),
            info.dtype
        );
        Ok((&info.shape, Values { data, dtype: info.dtype }))
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
