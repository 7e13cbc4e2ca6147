use super::case::{Case, MATRIX_TYPES, Work, types_in_tiles};
use crate::device::{Call, DType};
use crate::kernels::{GroupedLinear, GroupedOutput, Tile};

fn case(rows: usize, cols: [usize; 3], inner: usize, dtype: DType) -> Case {
    case_in_tiles(rows, cols, inner, dtype, Tile::of(rows, cols.iter().sum()))
}

/// As [`case`], in tiles that the shape would not have.
fn case_in_tiles(rows: usize, cols: [usize; 3], inner: usize, dtype: DType, tile: Tile) -> Case {
    let all: usize = cols.iter().sum();
    let shape = format!("{rows} x {cols:?} x {inner}, {dtype:?}");
    let mut case = Case::new(GroupedLinear::SIGNATURE, shape, Work::Flops(2.0 * (rows * all * inner) as f64));
    case = case.input("x", &[rows, inner]);
    for (name, cols) in ["w0", "w1", "w2"].into_iter().zip(cols) {
        case = case.matrix(name, &[cols.max(4), inner], dtype);
    }
    for (name, cols) in ["y0", "y1", "y2"].into_iter().zip(cols) {
        case = case.output(name, &[rows, cols.max(4)]);
    }
    case.run(move |device, tensors| {
        let [x, w0, w1, w2, y0, y1, y2] = tensors else { unreachable!() };
        let outputs = [
            GroupedOutput { w: w0, y: y0, cols: cols[0] },
            GroupedOutput { w: w1, y: y1, cols: cols[1] },
            GroupedOutput { w: w2, y: y2, cols: cols[2] },
        ];
        GroupedLinear::run_in_tiles(device, x, outputs, rows, inner, tile);
    })
}

/// What is tested: few rows and many, parts that are no whole tiles, two parts.
pub fn tests() -> Vec<Case> {
    let sizes = [
        (1, [36, 12, 12], 100),
        (3, [132, 68, 4], 36),
        (23, [64, 8, 200], 52),
        (37, [124, 4, 72], 20),
        (130, [132, 64, 0], 52),
        (512, [200, 300, 20], 24),
    ];
    let stored = |(rows, cols, inner)| MATRIX_TYPES.map(|dtype| case(rows, cols, inner, dtype));
    let tiled = Tile::ALL.into_iter().flat_map(|tile| {
        types_in_tiles(tile).iter().map(move |&dtype| case_in_tiles(152, [132, 36, 8], 36, dtype, tile))
    });
    sizes.into_iter().flat_map(stored).chain(tiled).collect()
}

/// The rows of the table: a decoded token of 32 sequences, queries, keys and values, gate and up.
pub fn bench() -> Vec<Case> {
    let sizes = [(32, [576, 192, 192], 576), (2048, [576, 192, 192], 576), (1024, [1536, 1536, 0], 576)];
    sizes.map(|(rows, cols, inner)| case(rows, cols, inner, DType::Real)).into()
}
