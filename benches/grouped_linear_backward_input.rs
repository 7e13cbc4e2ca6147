use super::case::{Case, MATRIX_TYPES, Work, types_in_tiles};
use crate::device::{Call, DType};
use crate::kernels::{GroupedGradient, GroupedLinearBackwardInput, Tile};

fn case(rows: usize, cols: usize, inner: [usize; 3], dtype: DType) -> Case {
    case_in_tiles(rows, cols, inner, dtype, Tile::of(rows, cols))
}

/// As [`case`], in tiles that the shape would not have.
fn case_in_tiles(rows: usize, cols: usize, inner: [usize; 3], dtype: DType, tile: Tile) -> Case {
    let all: usize = inner.iter().sum();
    let shape = format!("{rows} x {cols} x {inner:?}, {dtype:?}");
    let work = Work::Flops(2.0 * (rows * cols * all) as f64);
    let mut case = Case::new(GroupedLinearBackwardInput::SIGNATURE, shape, work);
    for (name, inner) in ["dy0", "dy1", "dy2"].into_iter().zip(inner) {
        case = case.input(name, &[rows, inner.max(4)]);
    }
    for (name, inner) in ["w0", "w1", "w2"].into_iter().zip(inner) {
        case = case.matrix(name, &[inner.max(4), cols], dtype);
    }
    case.output("dx", &[rows, cols]).run(move |device, tensors| {
        let [dy0, dy1, dy2, w0, w1, w2, dx] = tensors else { unreachable!() };
        let gradients = [
            GroupedGradient { w: w0, dy: dy0, inner: inner[0] },
            GroupedGradient { w: w1, dy: dy1, inner: inner[1] },
            GroupedGradient { w: w2, dy: dy2, inner: inner[2] },
        ];
        GroupedLinearBackwardInput::run_in_tiles(device, gradients, dx, rows, cols, tile);
    })
}

/// What is tested: rows and columns that are no whole tiles, parts that are no whole steps, two parts.
pub fn tests() -> Vec<Case> {
    let sizes = [
        (1, 4, [4, 4, 4]),
        (37, 124, [36, 12, 20]),
        (130, 132, [20, 64, 0]),
        (65, 1000, [8, 4, 8]),
        (512, 200, [52, 4, 16]),
    ];
    let stored = |(rows, cols, inner)| MATRIX_TYPES.map(|dtype| case(rows, cols, inner, dtype));
    let tiled = Tile::ALL.into_iter().flat_map(|tile| {
        types_in_tiles(tile).iter().map(move |&dtype| case_in_tiles(152, 132, [36, 20, 8], dtype, tile))
    });
    sizes.into_iter().flat_map(stored).chain(tiled).collect()
}

/// The rows of the table: queries, keys and values, gate and up.
pub fn bench() -> Vec<Case> {
    let sizes = [(2048, 576, [576, 192, 192]), (1024, 576, [1536, 1536, 0])];
    sizes.map(|(rows, cols, inner)| case(rows, cols, inner, DType::Real)).into()
}
