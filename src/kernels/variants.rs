//! The variants that several kernels have, and the choice between them.

use crate::gpu::{Cost, Launch, Needs, Subgroups, Traits, Variant, line};

/// The shared shader files, to be included by a [`Variant`].
pub mod shared {
    /// Folded grids.
    pub const GRID: &str = include_str!("../../shaders/shared/grid.wgsl");
    /// Rows cut into blocks.
    pub const ROW_BLOCKS: &str = include_str!("../../shaders/shared/row_blocks.wgsl");
    /// `element` = four values.
    pub const VEC4: &str = include_str!("../../shaders/shared/vec4.wgsl");
    /// `element` = one value.
    pub const SCALAR: &str = include_str!("../../shaders/shared/scalar.wgsl");
    /// Reductions over a workgroup that is one subgroup.
    pub const SUBGROUP_ROW: &str = include_str!("../../shaders/shared/subgroup_row.wgsl");
    /// Reductions over a workgroup of subgroups of any size.
    pub const SUBGROUPS_ROW: &str = include_str!("../../shaders/shared/subgroups_row.wgsl");
    /// Reductions over a workgroup, without subgroups.
    pub const WORKGROUP_ROW: &str = include_str!("../../shaders/shared/workgroup_row.wgsl");
    /// Matrices stored as f32.
    pub const WEIGHT_F32: &str = include_str!("../../shaders/shared/weight_f32.wgsl");
    /// Matrices stored as bf16.
    pub const WEIGHT_BF16: &str = include_str!("../../shaders/shared/weight_bf16.wgsl");
    /// Completes the last two where a product reads them.
    pub const WEIGHT_QUADS: &str = include_str!("../../shaders/shared/weight_quads.wgsl");
    /// Matrices stored in blocks of a byte a value.
    pub const WEIGHT_Q8: &str = include_str!("../../shaders/shared/weight_q8.wgsl");
    /// Matrices stored in llama.cpp's blocks of 4 bits a value.
    pub const WEIGHT_Q4_0: &str = include_str!("../../shaders/shared/weight_q4_0.wgsl");
    /// As the last, with scales and minima in a block.
    pub const WEIGHT_Q4_K: &str = include_str!("../../shaders/shared/weight_q4_k.wgsl");
    /// Matrices stored in llama.cpp's blocks of 6 bits a value.
    pub const WEIGHT_Q6_K: &str = include_str!("../../shaders/shared/weight_q6_k.wgsl");
    /// Matrices stored in blocks of NF4; completed by one of the next two.
    pub const WEIGHT_Q4: &str = include_str!("../../shaders/shared/weight_q4.wgsl");
    /// What 4 bits stand for, by a table.
    pub const NF4_TABLE: &str = include_str!("../../shaders/shared/nf4_table.wgsl");
    /// What 4 bits stand for, by choosing.
    pub const NF4_CHOSEN: &str = include_str!("../../shaders/shared/nf4_chosen.wgsl");
}

/// The invocations of a workgroup that reduces over a row and is not just one subgroup.
const WORKGROUP_LANES: u32 = 64;

/// From so many values on a row takes more: where there are few rows, as when decoding, a GPU waits for each load.
const LONG_ROW: usize = 2048;
const LONG_ROW_LANES: u32 = 256;

/// The only variant of a kernel that needs no choice: its shader file and the shared files that complete it.
pub const fn only(source: &'static str, includes: &'static [&'static str]) -> [Variant; 1] {
    [Variant { name: "", source, includes, needs: Needs::Nothing }]
}

/// A kernel with one workgroup a row that reduces over it: four values at a time or one, in each of the ways of
/// [`row_lanes`].
pub const fn reducing_rows(source: &'static str) -> [Variant; 6] {
    use shared::{GRID, SCALAR, SUBGROUP_ROW, SUBGROUPS_ROW, VEC4, WORKGROUP_ROW};
    [
        Variant { name: "vec4, subgroup", source, includes: &[GRID, VEC4, SUBGROUP_ROW], needs: Needs::Subgroups },
        Variant { name: "vec4, subgroups", source, includes: &[GRID, VEC4, SUBGROUPS_ROW], needs: Needs::Subgroups },
        Variant { name: "vec4, workgroup", source, includes: &[GRID, VEC4, WORKGROUP_ROW], needs: Needs::Nothing },
        Variant { name: "scalar, subgroup", source, includes: &[GRID, SCALAR, SUBGROUP_ROW], needs: Needs::Subgroups },
        Variant {
            name: "scalar, subgroups",
            source,
            includes: &[GRID, SCALAR, SUBGROUPS_ROW],
            needs: Needs::Subgroups,
        },
        Variant { name: "scalar, workgroup", source, includes: &[GRID, SCALAR, WORKGROUP_ROW], needs: Needs::Nothing },
    ]
}

/// As [`reducing_rows`], where every row is whole groups of four values.
pub const fn reducing_rows_of_four(source: &'static str) -> [Variant; 3] {
    use shared::{GRID, SUBGROUP_ROW, SUBGROUPS_ROW, WORKGROUP_ROW};
    [
        Variant { name: "subgroup", source, includes: &[GRID, SUBGROUP_ROW], needs: Needs::Subgroups },
        Variant { name: "subgroups", source, includes: &[GRID, SUBGROUPS_ROW], needs: Needs::Subgroups },
        Variant { name: "workgroup", source, includes: &[GRID, WORKGROUP_ROW], needs: Needs::Nothing },
    ]
}

/// The launch of one of [`reducing_rows`] or [`reducing_rows_of_four`]: `workgroups` of them over rows of `cols` values.
pub fn launch_reducing_rows(
    variants: &'static [Variant],
    traits: Traits,
    workgroups: usize,
    cols: usize,
    cost: Cost,
) -> Launch {
    let scalar = if cols.is_multiple_of(4) { 0 } else { 3 };
    let is_long = cols >= LONG_ROW && !traits.software;
    let (variant, lanes) = if is_long { long_row_lanes } else { row_lanes }(&variants[scalar..], traits);
    Launch { variant, constants: vec![(ROW_LANES, f64::from(lanes))], workgroups: line(workgroups), cost }
}

/// The constant with the lanes of a workgroup that reduces over a row.
pub const ROW_LANES: &str = "LANES";

/// Of a variant whose workgroup is one subgroup, one over subgroups of any size and one through workgroup memory, in this
/// order: the adapter's, and its lanes.
pub fn row_lanes(variants: &'static [Variant], traits: Traits) -> (&'static Variant, u32) {
    match traits.subgroups {
        Subgroups::OfSize(size) => (&variants[0], size),
        Subgroups::Varying => (&variants[1], WORKGROUP_LANES),
        Subgroups::Missing => (&variants[2], WORKGROUP_LANES),
    }
}

/// As [`row_lanes`] for rows that keep many lanes busy on a GPU.
pub fn long_row_lanes(variants: &'static [Variant], traits: Traits) -> (&'static Variant, u32) {
    match traits.subgroups {
        Subgroups::OfSize(_) | Subgroups::Varying => (&variants[1], LONG_ROW_LANES),
        Subgroups::Missing => (&variants[2], LONG_ROW_LANES),
    }
}

/// A kernel whose invocations each own elements of a row: four values at a time, or one.
pub const fn by_width(source: &'static str) -> [Variant; 2] {
    use shared::{GRID, SCALAR, VEC4};
    [
        Variant { name: "vec4", source, includes: &[GRID, VEC4], needs: Needs::Nothing },
        Variant { name: "scalar", source, includes: &[GRID, SCALAR], needs: Needs::Nothing },
    ]
}

/// As [`by_width`], where an invocation takes an element of every row of a block of rows.
pub const fn by_width_in_blocks(source: &'static str) -> [Variant; 2] {
    use shared::{GRID, ROW_BLOCKS, SCALAR, VEC4};
    [
        Variant { name: "vec4", source, includes: &[GRID, ROW_BLOCKS, VEC4], needs: Needs::Nothing },
        Variant { name: "scalar", source, includes: &[GRID, ROW_BLOCKS, SCALAR], needs: Needs::Nothing },
    ]
}

/// The invocations of a workgroup of the kernels whose invocations do not meet; their shaders say it as a number.
const FLAT_LANES: usize = 64;

/// The elements that a thread takes at a time in the twin of a kernel that computes each by itself. Its loop over them is a
/// plain one: whatever is called once an element must be inlined, and adapters of another crate are not.
pub const TWIN_BLOCK: usize = 4096;

/// The launch of `invocations` that do not meet.
pub fn launch_flat(variant: &'static Variant, invocations: usize, cost: Cost) -> Launch {
    launch_each(variant, invocations.div_ceil(FLAT_LANES), cost)
}

/// The launch of a workgroup for each of `count` rows or sequences.
pub fn launch_each(variant: &'static Variant, count: usize, cost: Cost) -> Launch {
    Launch { variant, constants: Vec::new(), workgroups: line(count), cost }
}

/// The launch of one of [`by_width`]: `rows` of `cols` values, an invocation for every element of every row.
pub fn launch_by_width(variants: &'static [Variant; 2], rows: usize, cols: usize, cost: Cost) -> Launch {
    let (variant, width) = if cols.is_multiple_of(4) { (&variants[0], 4) } else { (&variants[1], 1) };
    launch_flat(variant, rows * (cols / width), cost)
}
