//! How a matrix product is cut into workgroups: their tiles, and which text computes them.

use std::ops::Range;

use super::products::FEW_ROWS;
use super::variants::shared::{
    GRID, NF4_CHOSEN, NF4_TABLE, WEIGHT_BF16, WEIGHT_F32, WEIGHT_Q4, WEIGHT_Q4_0, WEIGHT_Q4_K, WEIGHT_Q6_K, WEIGHT_Q8,
    WEIGHT_QUADS,
};
use crate::device::{DType, Device, MAGNITUDES, MatmulPrecision, word};
use crate::gpu::{Cost, Launch, MatrixSize, MatrixUnits, Needs, Subgroups, Traits, Variant};

/// Rows and columns of the outputs that a workgroup computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    pub rows: u32,
    pub cols: u32,
}

/// `DEPTH` of `shared/matmul_tiles.wgsl`: the k of a step.
pub const DEPTH: u32 = 16;

/// Terms of a sum where loops are cut short: llvmpipe ends all of an invocation's loops after 65535 rounds together, and 16 terms
/// take 5 of them.
pub const LONGEST_SUM_OF_SHORT_LOOPS: usize = 3 << 16;

const LARGE: Tile = Tile { rows: 128, cols: 128 };
const MEDIUM: Tile = Tile { rows: 64, cols: 64 };
const TALL: Tile = Tile { rows: 128, cols: 32 };
const WIDE: Tile = Tile { rows: 32, cols: 128 };

/// The lanes of `shared/matmul_lanes.wgsl`, and its tile.
const SUBGROUP: u32 = 8;
const LANES_TILE: Tile = Tile { rows: 4 * SUBGROUP, cols: 8 * SUBGROUP };

/// The rows of a workgroup of `shared/matmul_rows.wgsl` and `shared/norm_rows.wgsl`: their constant `FEW_ROWS`.
const ROWS_OF_TEXTS: [u32; 3] = [1, 4, 8];

/// The columns of matrices that a workgroup of `shared/few_rows.wgsl` reads.
pub const ROWS_COLS: u32 = 8;

/// The most workgroups of a dimension of a grid, everywhere.
const MAX_WORKGROUPS: u32 = 65535;

impl Tile {
    /// Every tile of `shared/matmul_tiles.wgsl`.
    pub const ALL: [Self; 4] = [LARGE, MEDIUM, TALL, WIDE];

    /// The tile of a product's shape. All tiles give the same bits. A large one reads least, where there is work for enough
    /// workgroups to keep a large GPU busy; a narrow product fills a narrow one.
    pub fn of(rows: usize, cols: usize) -> Self {
        const ENOUGH_WORKGROUPS: u32 = 448;
        match (rows, cols) {
            (0..=FEW_ROWS, _) => WIDE,
            (_, 0..=32) => TALL,
            _ if LARGE.count(rows, cols) >= ENOUGH_WORKGROUPS => LARGE,
            _ => MEDIUM,
        }
    }

    /// How precise a product in these tiles is on a device, of so many rows and columns together: a large one is so as it is asked
    /// to.
    pub fn precision(self, device: &Device, lines: usize) -> MatmulPrecision {
        let has_room = lines <= MAGNITUDES;
        if self.is_large() && has_room { device.matmul_precision() } else { MatmulPrecision::Highest }
    }

    /// Whether it is a product for matrix units.
    fn is_large(self) -> bool {
        matches!(self, LARGE | MEDIUM)
    }

    /// As many tiles make a product.
    pub fn count(self, rows: usize, cols: usize) -> u32 {
        (rows as u32).div_ceil(self.rows) * (cols as u32).div_ceil(self.cols)
    }

    /// The rows of a product in as many dispatches as it needs, cut along whole tiles.
    pub fn dispatches(
        self,
        device: &Device,
        rows: usize,
        cols: usize,
        inner: usize,
    ) -> impl Iterator<Item = Range<usize>> + use<> {
        let step = self.rows as usize;
        let run = step * cost(step, cols, inner).per_dispatch(device.rates(), rows.div_ceil(step));
        (0..rows).step_by(run).map(move |first| first..rows.min(first + run))
    }

    /// The constants of `shared/matmul_tiles.wgsl`.
    fn constants(self) -> Vec<(&'static str, f64)> {
        vec![("ROWS", f64::from(self.rows)), ("COLS", f64::from(self.cols))]
    }
}

/// Whether a dimension of a grid has room for `cols` columns of matrices that are multiplied by few rows.
fn has_room(cols: u32) -> bool {
    cols.div_ceil(ROWS_COLS) <= MAX_WORKGROUPS
}

/// Whether a product of `rows` rows by matrices that have `cols` columns in all is faster where it normalises the rows on its way
/// ([`RmsNormLinear`](super::RmsNormLinear), [`RmsNormGatedLinear`](super::RmsNormGatedLinear)): on GPUs, of few rows.
pub fn suits_norm_rows(device: &Device, rows: usize, cols: usize) -> bool {
    device.is_real_gpu() && rows <= FEW_ROWS && has_room(word(cols))
}

/// Of `rows` x `cols` sums over `inner` products.
pub fn cost(rows: usize, cols: usize, inner: usize) -> Cost {
    Cost { flops: 2.0 * (rows * cols) as f64 * inner as f64, bytes: 0.0 }
}

const TILES: &str = concat!(
    include_str!("../../shaders/shared/matmul_tiles.wgsl"),
    include_str!("../../shaders/shared/tile_steps.wgsl")
);
const MATRICES: &str = concat!(
    include_str!("../../shaders/shared/matmul_matrices.wgsl"),
    include_str!("../../shaders/shared/matrix_entries.wgsl"),
    include_str!("../../shaders/shared/tile_steps.wgsl")
);
pub const MATRICES_16: &str = include_str!("../../shaders/shared/matrices_16.wgsl");
pub const MATRICES_8: &str = include_str!("../../shaders/shared/matrices_8.wgsl");
const MATRICES_8_F32: &str = include_str!("../../shaders/shared/matrices_8_f32.wgsl");
const TWO_PARTS: &str = include_str!("../../shaders/shared/matrices_two_parts.wgsl");
const ONE_PART: &str = include_str!("../../shaders/shared/matrices_one_part.wgsl");
const LANES: &str = include_str!("../../shaders/shared/matmul_lanes.wgsl");
const ROWS: &str =
    concat!(include_str!("../../shaders/shared/matmul_rows.wgsl"), include_str!("../../shaders/shared/few_rows.wgsl"));
const NORM_ROWS: &str =
    concat!(include_str!("../../shaders/shared/norm_rows.wgsl"), include_str!("../../shaders/shared/few_rows.wgsl"));
const ONE: &str = "const FEW_ROWS = 1u;";
const FOUR: &str = "const FEW_ROWS = 4u;";
const EIGHT: &str = "const FEW_ROWS = 8u;";

/// How many types of matrices products take, and how many texts [`by_tile`], [`by_rows`] and [`by_tile_or_rows`] have of them.
pub const TYPES: usize = 7;
/// Tiles, lanes, and matrix units: of two sizes in two precisions, and of f32.
const TILE_TEXTS_OF_TYPE: usize = 7;
pub const TILE_TEXTS: usize = TILE_TEXTS_OF_TYPE * TYPES;
pub const ROWS_TEXTS: usize = ROWS_OF_TEXTS.len() * TYPES;
pub const ALL_TEXTS: usize = TILE_TEXTS + ROWS_TEXTS;

/// The texts that a macro makes of a type's name and the files that read it, on GPUs and on adapters that are CPUs: of all types, in
/// the order of [`place_of`].
macro_rules! by_type {
    ($texts:ident, $($given:expr),+) => {
        flattened([
            $texts!($($given),+, "f32", [WEIGHT_F32, WEIGHT_QUADS], [WEIGHT_F32, WEIGHT_QUADS]),
            $texts!($($given),+, "bf16", [WEIGHT_BF16, WEIGHT_QUADS], [WEIGHT_BF16, WEIGHT_QUADS]),
            $texts!($($given),+, "q8", [WEIGHT_Q8], [WEIGHT_Q8]),
            $texts!($($given),+, "q4", [WEIGHT_Q4, NF4_TABLE], [WEIGHT_Q4, NF4_CHOSEN]),
            $texts!($($given),+, "q4_0", [WEIGHT_Q4_0], [WEIGHT_Q4_0]),
            $texts!($($given),+, "q4_k", [WEIGHT_Q4_K], [WEIGHT_Q4_K]),
            $texts!($($given),+, "q6_k", [WEIGHT_Q6_K], [WEIGHT_Q6_K]),
        ])
    };
}

/// Tiles for GPUs, lanes for CPUs.
macro_rules! tile_texts {
    ($source:expr, $type:literal, [$($tiles:expr),+], [$($lanes:expr),+]) => {
        [
            Variant {
                name: concat!("tiles, ", $type),
                source: $source,
                includes: &[TILES, $($tiles),+],
                needs: Needs::Nothing,
            },
            Variant {
                name: concat!("lanes, ", $type),
                source: $source,
                includes: &[LANES, $($lanes),+],
                needs: Needs::Subgroups,
            },
            matrices_text!("16 x 16, high", $source, $type, [MATRICES_16, TWO_PARTS, $($tiles),+]),
            matrices_text!("16 x 16, medium", $source, $type, [MATRICES_16, ONE_PART, $($tiles),+]),
            matrices_text!("8 x 8, high", $source, $type, [MATRICES_8, TWO_PARTS, $($tiles),+]),
            matrices_text!("8 x 8, medium", $source, $type, [MATRICES_8, ONE_PART, $($tiles),+]),
            matrices_text!("8 x 8, highest", $source, $type, [MATRICES_8_F32, ONE_PART, $($tiles),+]),
        ]
    };
}

/// Matrix units.
macro_rules! matrices_text {
    ($name:literal, $source:expr, $type:literal, [$($files:expr),+]) => {
        Variant {
            name: concat!("matrices, ", $name, ", ", $type),
            source: $source,
            includes: &[MATRICES, $($files),+],
            needs: Needs::Matrices,
        }
    };
}

/// A text that is no product's, for GPUs.
macro_rules! plain_text {
    ($source:expr, $type:literal, [$($reads:expr),+], $lanes:tt) => {
        [Variant { name: $type, source: $source, includes: &[GRID, $($reads),+], needs: Needs::Nothing }]
    };
}

/// Texts for few rows, completed by this file, in the order of [`ROWS_OF_TEXTS`]; for GPUs.
macro_rules! rows_texts {
    ($source:expr, $file:expr, $type:literal, [$($reads:expr),+], $lanes:tt) => {
        [
            Variant {
                name: concat!("1 row, ", $type),
                source: $source,
                includes: &[$file, ONE, $($reads),+],
                needs: Needs::Nothing,
            },
            Variant {
                name: concat!("4 rows, ", $type),
                source: $source,
                includes: &[$file, FOUR, $($reads),+],
                needs: Needs::Nothing,
            },
            Variant {
                name: concat!("8 rows, ", $type),
                source: $source,
                includes: &[$file, EIGHT, $($reads),+],
                needs: Needs::Nothing,
            },
        ]
    };
}

/// The texts of all types, one after the other.
const fn flattened<const OF_TYPE: usize, const ALL: usize>(texts: [[Variant; OF_TYPE]; TYPES]) -> [Variant; ALL] {
    let mut all = [texts[0][0]; ALL];
    let mut i = 0;
    while i < ALL {
        all[i] = texts[i / OF_TYPE][i % OF_TYPE];
        i += 1;
    }
    all
}

/// The texts of a kernel that reads a matrix of any type and multiplies nothing.
pub const fn by_type_of_matrix(source: &'static str) -> [Variant; TYPES] {
    by_type!(plain_text, source)
}

/// A product's texts for each type of matrix: tiles for GPUs, lanes for CPUs, matrix units.
pub const fn by_tile(source: &'static str) -> [Variant; TILE_TEXTS] {
    by_type!(tile_texts, source)
}

/// The texts of a product of few rows by a transposed matrix.
pub const fn by_rows(source: &'static str) -> [Variant; ROWS_TEXTS] {
    by_type!(rows_texts, source, ROWS)
}

/// The texts of a product of few rows that are normalised on their way, by a transposed matrix.
pub const fn by_norm_rows(source: &'static str) -> [Variant; ROWS_TEXTS] {
    by_type!(rows_texts, source, NORM_ROWS)
}

/// [`by_tile`], then [`by_rows`].
pub const fn by_tile_or_rows(source: &'static str) -> [Variant; ALL_TEXTS] {
    let (tiles, rows) = (by_tile(source), by_rows(source));
    let mut all = [tiles[0]; ALL_TEXTS];
    let mut i = 0;
    while i < ALL_TEXTS {
        all[i] = if i < TILE_TEXTS { tiles[i] } else { rows[i - TILE_TEXTS] };
        i += 1;
    }
    all
}

/// Where the texts for a type of matrix are among those for all types.
pub fn place_of(dtype: DType) -> usize {
    match dtype {
        DType::Real => 0,
        DType::Bf16 => 1,
        DType::Q8 => 2,
        DType::Q4 => 3,
        DType::Q40 => 4,
        DType::Q4K => 5,
        DType::Q6K => 6,
        DType::U32 => unreachable!("no matrix holds indices"),
    }
}

/// Which of the texts for matrix units is for these, and operands so precise: 16 x 16 and then 8 x 8, each in `high` and in `medium`;
/// then those of f32.
pub fn place_on_matrices(units: MatrixUnits, precision: MatmulPrecision) -> usize {
    match (precision, units.size) {
        (MatmulPrecision::High, MatrixSize::Sixteen) => 0,
        (MatmulPrecision::Medium, MatrixSize::Sixteen) => 1,
        (MatmulPrecision::High, MatrixSize::Eight) => 2,
        (MatmulPrecision::Medium, MatrixSize::Eight) => 3,
        (MatmulPrecision::Highest, _) => 4,
    }
}

/// The constants that all texts for matrix units have. A CPU's conversion to f16 cuts off; of a GPU's the self-test would find it.
pub fn matrices_constants(traits: Traits, units: MatrixUnits) -> Vec<(&'static str, f64)> {
    vec![("SUBGROUP", f64::from(units.subgroup)), ("CUTS_OFF", f64::from(traits.software))]
}

/// A product's text on an adapter: what it computes a workgroup, and its constants.
pub struct TileText {
    variant: &'static Variant,
    constants: Vec<(&'static str, f64)>,
    tile: Tile,
}

impl TileText {
    /// Of [`by_tile`]: the adapter's, as precise as is asked for.
    pub fn of_tile(
        variants: &'static [Variant],
        traits: Traits,
        dtype: DType,
        tile: Tile,
        precision: MatmulPrecision,
    ) -> Self {
        let variants = &variants[TILE_TEXTS_OF_TYPE * place_of(dtype)..][..TILE_TEXTS_OF_TYPE];
        let may_take = |units: &MatrixUnits| match precision {
            MatmulPrecision::Highest => units.takes_f32 && tile.is_large(),
            MatmulPrecision::High | MatmulPrecision::Medium => true,
        };
        if let Some(units) = traits.matrices.filter(may_take) {
            let side = 8 * units.size.values(); // ROWS and COLS of the shader
            let variant = &variants[2 + place_on_matrices(units, precision)];
            let constants = matrices_constants(traits, units);
            return Self { variant, constants, tile: Tile { rows: side, cols: side } };
        }
        if traits.software && traits.subgroups == Subgroups::OfSize(SUBGROUP) {
            return Self { variant: &variants[1], constants: Vec::new(), tile: LANES_TILE };
        }
        let tile = match (tile, dtype) {
            // A wide tile unpacks four values of the matrix for one of the other operand's: a square one computes more.
            (WIDE, dtype) if dtype != DType::Real => MEDIUM,
            // Beside a large one there is no room for the table.
            (LARGE, DType::Q4) => MEDIUM,
            _ => tile,
        };
        Self { variant: &variants[0], constants: tile.constants(), tile }
    }

    /// Of [`by_tile_or_rows`], where rows are few by columns that the grid has room for, on a GPU: those for few rows. It is the
    /// whole product's rows that count, by its tile: these texts round otherwise, and a large product's last part may be small.
    pub fn of_few_rows(
        variants: &'static [Variant; ALL_TEXTS],
        traits: Traits,
        dtype: DType,
        whole: Tile,
        rows: u32,
        cols: u32,
    ) -> Option<Self> {
        if traits.software || whole != WIDE || !has_room(cols) {
            return None;
        }
        Some(Self::of_rows(variants.last_chunk().expect("they are the last"), dtype, rows, ROWS_COLS))
    }

    /// Of [`by_rows`] or [`by_norm_rows`]: their workgroups compute `cols` columns each.
    pub fn of_rows(variants: &'static [Variant; ROWS_TEXTS], dtype: DType, rows: u32, cols: u32) -> Self {
        let which = ROWS_OF_TEXTS.iter().position(|&most| rows <= most).unwrap_or(ROWS_OF_TEXTS.len() - 1);
        let variant = &variants[ROWS_OF_TEXTS.len() * place_of(dtype) + which];
        Self { variant, constants: Vec::new(), tile: Tile { rows: ROWS_OF_TEXTS[which], cols } }
    }

    /// The launch over `rows` and the columns of matrices side by side, of `layers` parts of the k. `constants` are the
    /// product's own.
    pub fn launch(
        self,
        rows: u32,
        cols: &[u32],
        layers: u32,
        constants: Vec<(&'static str, f64)>,
        cost: Cost,
    ) -> Launch {
        let Self { variant, constants: sizes, tile } = self;
        let across = cols.iter().map(|cols| cols.div_ceil(tile.cols)).sum();
        let constants = constants.into_iter().chain(sizes).collect();
        Launch { variant, constants, workgroups: [across, rows.div_ceil(tile.rows), layers], cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_follows_precision_and_units() {
        use MatmulPrecision::{High, Highest, Medium};
        static TEXTS: [Variant; TILE_TEXTS] = by_tile("");
        let units = |size, takes_f32| Some(MatrixUnits { size, takes_f32, subgroup: 32 });
        let name = |matrices, tile, precision| {
            let traits = Traits { subgroups: Subgroups::Varying, matrices, software: false };
            TileText::of_tile(&TEXTS, traits, DType::Bf16, tile, precision).variant.name
        };
        let [sixteen, eight, apple] =
            [units(MatrixSize::Sixteen, false), units(MatrixSize::Eight, false), units(MatrixSize::Eight, true)];
        for tile in [LARGE, MEDIUM] {
            assert_eq!(name(sixteen, tile, High), "matrices, 16 x 16, high, bf16");
            assert_eq!(name(sixteen, tile, Medium), "matrices, 16 x 16, medium, bf16");
            assert_eq!(name(eight, tile, High), "matrices, 8 x 8, high, bf16");
            assert_eq!(name(apple, tile, Medium), "matrices, 8 x 8, medium, bf16");
            assert_eq!(name(apple, tile, Highest), "matrices, 8 x 8, highest, bf16");
            assert_eq!(name(eight, tile, Highest), "tiles, bf16");
            assert_eq!(name(None, tile, Highest), "tiles, bf16");
        }
        assert_eq!(name(apple, TALL, Highest), "tiles, bf16");
        assert_eq!(name(apple, WIDE, Highest), "tiles, bf16");
    }

    #[test]
    fn the_tile_follows_the_shape() {
        // Projections of a model of 7 billion: 224 large tiles are too few, 896 are not.
        assert_eq!(Tile::of(1024, 3584), MEDIUM);
        assert_eq!(MEDIUM.count(1024, 3584), 896);
        assert_eq!(Tile::of(1024, 18944), LARGE);
        assert_eq!(Tile::of(1024, 152_064), LARGE);
        // Adapters of rank 16, forward and their gradients.
        assert_eq!(Tile::of(4096, 16), TALL);
        assert_eq!(Tile::of(16, 896), WIDE);
    }
}
