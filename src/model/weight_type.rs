//! How weights are stored: on the device and in files.

use std::path::Path;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::parameter::Storage;
use crate::device::{DType, Precision};

/// How weights are stored: the same options for every verb.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightOptions {
    /// How weights are stored
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: WeightType,
    /// How a frozen base's layers are stored
    ///
    /// As --dtype says where it is not given. With q8 and q4 embedding and head are bf16.
    #[arg(long, value_enum, value_name = "TYPE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseType>,
    /// How a frozen base's embedding and head are stored, where not as --base says
    #[arg(long, value_enum, value_name = "TYPE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_head: Option<HeadType>,
}

impl WeightOptions {
    /// Opens a model's weights. Of a GGUF file blocks stay as they are where no type of a base is asked for.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open(self, model: &Path) -> Result<Checkpoint> {
        Ok(Checkpoint::open(model)?.keeping_blocks(self.base.is_none()))
    }

    /// The types of frozen matrices on the device.
    pub fn storage(self) -> Storage {
        let dtype = match self.base {
            None => self.dtype.storage(),
            Some(BaseType::F32) => DType::Real,
            Some(BaseType::Bf16) => DType::Bf16,
            Some(BaseType::Q8) => DType::Q8,
            Some(BaseType::Q4) => DType::Q4,
        };
        let head = self.base_head.map(|head| match head {
            HeadType::F32 => DType::Real,
            HeadType::Bf16 => DType::Bf16,
            HeadType::Q8 => DType::Q8,
        });
        Storage { head, ..Storage::frozen(dtype) }
    }

    /// The option that says how a frozen base is stored, where one was given.
    pub fn of_base(self) -> Option<&'static str> {
        let head = self.base_head.map(|_| "--base-head");
        self.base.map(|_| "--base").or(head)
    }
}

/// How the matrices of frozen layers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BaseType {
    F32,
    Bf16,
    /// Blocks of 32 signed bytes with a scale, llama.cpp's Q8_0: 9 bits a weight.
    Q8,
    /// Blocks of 64 times 4 bits with a scale, QLoRA's NF4: 4.5 bits a weight.
    Q4,
}

/// How the embedding and the head of a frozen base are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadType {
    F32,
    Bf16,
    /// Blocks of 32 signed bytes with a scale, llama.cpp's Q8_0: 9 bits a weight.
    Q8,
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightType {
    #[default]
    F32,
    /// bf16 matrices for the passes, beside f32 masters for the optimizer.
    Bf16,
    /// The CPU device only: everything in f64.
    F64,
}

impl WeightType {
    /// The precision that the device computes in.
    pub fn precision(self) -> Precision {
        if self == WeightType::F64 { Precision::F64 } else { Precision::F32 }
    }

    /// The type in a file.
    pub fn in_files(self) -> safetensors::Dtype {
        match self {
            WeightType::F32 => safetensors::Dtype::F32,
            WeightType::Bf16 => safetensors::Dtype::BF16,
            WeightType::F64 => safetensors::Dtype::F64,
        }
    }

    /// The type of a matrix on the device.
    pub fn storage(self) -> DType {
        if self == WeightType::Bf16 { DType::Bf16 } else { DType::Real }
    }
}
