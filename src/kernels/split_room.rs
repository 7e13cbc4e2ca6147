//! What attention multiplies, split into parts where its products are not to be as precise as can be.

use anyhow::Result;

use super::attention::Splits;
use super::{FEW_ROWS, Heads, OutputGradient, Projections, Sequences, SplitHeads};
use crate::device::{Device, MatmulPrecision, Tensor};

/// Room for the parts of what attention multiplies.
pub struct SplitRoom {
    pub projections: ProjectionsRoom,
    /// Only for a backward pass.
    pub dout: Option<Tensor>,
}

/// Of queries, keys and values.
pub struct ProjectionsRoom {
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
}

impl SplitRoom {
    /// Room for `tokens`, of tensors that `make` makes of a name and their words; `None` where attention on the device splits nothing.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn new(
        device: &Device,
        heads: Heads,
        tokens: usize,
        has_gradient: bool,
        make: impl Fn(&str, usize) -> Result<Tensor>,
    ) -> Result<Option<Self>> {
        let precision = device.matmul_precision();
        if precision == MatmulPrecision::Highest || !heads.may_split() || tokens <= FEW_ROWS {
            return Ok(None);
        }
        let Splits { of_queries, of_keys } = heads.splits(tokens, precision);
        let (queries, keys) = (of_queries.words(), of_keys.words());
        let projections =
            ProjectionsRoom { q: make("q_parts", queries)?, k: make("k_parts", keys)?, v: make("v_parts", keys)? };
        let dout = if has_gradient { Some(make("dout_parts", queries)?) } else { None };
        Ok(Some(SplitRoom { projections, dout }))
    }
}

impl<'a> Projections<'a> {
    /// The same, split into parts where products are to be less precise.
    pub fn split(
        self,
        device: &Device,
        heads: Heads,
        sequences: Sequences,
        room: &'a mut ProjectionsRoom,
    ) -> Projections<'a> {
        let precision = heads.precision(device, sequences.reach());
        if precision == MatmulPrecision::Highest {
            return self;
        }
        let ProjectionsRoom { q, k, v } = room;
        let Splits { of_queries, of_keys } = heads.splits(sequences.tokens, precision);
        SplitHeads::run(device, of_queries, self.q, q);
        SplitHeads::run(device, of_keys, self.k, k);
        SplitHeads::run(device, of_keys, self.v, v);
        Projections { q, k, v, precision, ..self }
    }
}

impl<'a> OutputGradient<'a> {
    /// The same, split as the projections are.
    pub fn split(
        self,
        device: &Device,
        heads: Heads,
        tokens: usize,
        precision: MatmulPrecision,
        room: &'a mut Tensor,
    ) -> OutputGradient<'a> {
        if precision == MatmulPrecision::Highest {
            return self;
        }
        SplitHeads::run(device, heads.splits(tokens, precision).of_queries, self.dout, room);
        OutputGradient { dout: room, ..self }
    }
}
