//! The texts of attention's kernels: in tiles, and on matrix units.

pub(super) use super::tiles::{MATRICES_8, MATRICES_16};

use super::tiles::place_on_matrices;
use crate::device::MatmulPrecision;
use crate::gpu::{MatrixUnits, Needs, Variant};

pub(super) const SEEN: &str = include_str!("../../shaders/shared/attention_seen.wgsl");
pub(super) const TILES: &str = include_str!("../../shaders/shared/attention_tiles.wgsl");
pub(super) const LANES_64: &str = include_str!("../../shaders/shared/attention_lanes_64.wgsl");
pub(super) const LANES_128: &str = include_str!("../../shaders/shared/attention_lanes_128.wgsl");
pub(super) const MATRICES: &str = concat!(
    include_str!("../../shaders/shared/attention_matrices.wgsl"),
    include_str!("../../shaders/shared/matrix_entries.wgsl")
);
pub(super) const SCORES: &str = include_str!("../../shaders/shared/attention_matrices_scores.wgsl");
pub(super) const HIGH: &str = "const PARTS = 2u;";
pub(super) const MEDIUM: &str = "const PARTS = 1u;";

/// The texts of a kernel: workgroups of 64 invocations a tile, and of 128; matrix units of two sizes in two precisions.
pub(super) const TEXTS: usize = 6;

/// Which of them is for these matrix units, and operands so precise.
pub(super) fn text_on_matrices(units: MatrixUnits, precision: MatmulPrecision) -> usize {
    2 + place_on_matrices(units, precision)
}

/// The texts of a kernel, of its file and what completes it in tiles and on matrix units.
macro_rules! texts {
    ($file:literal, [$($tiles:expr),+], [$($matrices:expr),+]) => {{
        use crate::gpu::Needs::{Matrices, Nothing};
        use crate::kernels::attention_texts::{
            HIGH, LANES_64, LANES_128, MATRICES, MATRICES_8, MATRICES_16, MEDIUM, SEEN, TILES, text,
        };
        const SOURCE: &str = include_str!(concat!("../../shaders/", $file, ".wgsl"));
        [
            text(SOURCE, "64 lanes", &[LANES_64, SEEN, TILES, $($tiles),+], Nothing),
            text(SOURCE, "128 lanes", &[LANES_128, SEEN, TILES, $($tiles),+], Nothing),
            text(SOURCE, "matrices, 16 x 16, high", &[MATRICES_16, HIGH, SEEN, MATRICES, $($matrices),+], Matrices),
            text(SOURCE, "matrices, 16 x 16, medium", &[MATRICES_16, MEDIUM, SEEN, MATRICES, $($matrices),+], Matrices),
            text(SOURCE, "matrices, 8 x 8, high", &[MATRICES_8, HIGH, SEEN, MATRICES, $($matrices),+], Matrices),
            text(SOURCE, "matrices, 8 x 8, medium", &[MATRICES_8, MEDIUM, SEEN, MATRICES, $($matrices),+], Matrices),
        ]
    }};
}
pub(super) use texts;

pub(super) const fn text(
    source: &'static str,
    name: &'static str,
    includes: &'static [&'static str],
    needs: Needs,
) -> Variant {
    Variant { name, source, includes, needs }
}
