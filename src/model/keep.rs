//! What a forward pass keeps.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::device::DType;

/// What a forward pass keeps for a backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: there is no backward pass.
    Nothing,
    /// Each layer's input; the backward pass computes the rest of a layer again (gradient checkpointing).
    LayerInputs(ActivationType),
    /// All that the backward pass reads.
    Everything(ActivationType),
}

impl Keep {
    /// How it is kept.
    pub(super) fn activations(self) -> ActivationType {
        match self {
            Self::Nothing => ActivationType::F32,
            Self::LayerInputs(activations) | Self::Everything(activations) => activations,
        }
    }

    /// Whether the passes work where everything is kept: each layer in tensors of its own.
    pub(super) fn works_in_place(self) -> bool {
        self == Self::Everything(ActivationType::F32)
    }
}

/// How what is kept for a backward pass is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivationType {
    /// As it is computed.
    #[default]
    F32,
    /// Rounded: half the memory, slightly other gradients.
    Bf16,
}

impl ActivationType {
    /// The type on the device.
    pub(super) fn storage(self) -> DType {
        match self {
            Self::F32 => DType::Real,
            Self::Bf16 => DType::Bf16,
        }
    }
}
