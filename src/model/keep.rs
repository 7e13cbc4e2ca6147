//! What a forward pass keeps.

/// What a forward pass keeps for a backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: there is no backward pass.
    Nothing,
    /// Each layer's input; the backward pass computes the rest of a layer again (gradient checkpointing).
    LayerInputs,
    /// All that the backward pass reads.
    Everything,
}
