//! How weights are stored: on the device and in files.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::device::{DType, Precision};

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
