use super::case::{Case, MATRIX_TYPES, Work, types_in_tiles};
use crate::device::{Call, DType, Precision};
use crate::kernels::{Layout, Matmul, Operand, OperandMut, Product, Tile};

/// The sizes of a product of `rows` x `inner` by `inner` x `cols`.
#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    cols: usize,
    inner: usize,
}

/// A product, each operand inside a larger tensor, added to what is there or not; `b` stored as `dtype`.
fn case(layout: Layout, size: Size, dtype: DType, accumulate: bool) -> Case {
    case_in_tiles(layout, size, dtype, accumulate, Tile::of(size.rows, size.cols))
}

/// As [`case`], in tiles that the shape would not have.
fn case_in_tiles(layout: Layout, size: Size, dtype: DType, accumulate: bool, tile: Tile) -> Case {
    const MARGIN: usize = 8; // columns beside each operand; one row before it
    let Size { rows, cols, inner } = size;
    let added = if accumulate { ", added" } else { "" };
    let shape = format!("{layout:?} {rows} x {cols} x {inner}, {dtype:?}{added}");
    let case = Case::new(Matmul::SIGNATURE, shape, Work::Flops(2.0 * (rows * cols * inner) as f64));
    let [[a_rows, a_cols], [b_rows, b_cols]] = match layout {
        Layout::Nt => [[rows, inner], [cols, inner]],
        Layout::Nn => [[rows, inner], [inner, cols]],
        Layout::Tn => [[inner, rows], [inner, cols]],
    };
    case.input("a", &[a_rows + 1, a_cols + MARGIN])
        .matrix("b", &[b_rows + 1, b_cols + MARGIN], dtype)
        .output("c", &[rows + 1, cols + MARGIN])
        .run(move |device, tensors| {
            let [a, b, c] = tensors else { unreachable!() };
            let a = Operand::whole(a, a_cols + MARGIN).from_row(1).from_column(4);
            let b = Operand::whole(b, b_cols + MARGIN).from_row(1).from_column(4);
            let c = OperandMut::whole(c, cols + MARGIN).from_row(1).from_column(4);
            Matmul::run_in_tiles(device, Product { layout, rows, cols, inner, a, b, c, accumulate }, tile);
        })
}

/// The gradient of a matrix that is split over its k, added to what is there.
fn split(rows: usize, cols: usize, inner: usize) -> Case {
    let shape = format!("Tn {rows} x {cols} x {inner}, split");
    let case = Case::new(Matmul::SIGNATURE, shape, Work::Flops(2.0 * (rows * cols * inner) as f64));
    let case = case.input("a", &[inner, rows]).input("b", &[inner, cols]).output("c", &[rows, cols]);
    case.input("partial", &[8, rows * cols]).run(move |device, tensors| {
        let [a, b, c, partial] = tensors else { unreachable!() };
        let (a, b, c) = (Operand::whole(a, rows), Operand::whole(b, cols), OperandMut::whole(c, cols));
        let product = Product { layout: Layout::Tn, rows, cols, inner, a, b, c, accumulate: true };
        Matmul::run_split(device, product, partial);
    })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let shapes = [
        (Layout::Nt, 37, 124, 52),
        (Layout::Nt, 1, 4, 4),
        (Layout::Nt, 2, 100, 700),
        (Layout::Nt, 7, 36, 300),
        (Layout::Nt, 128, 68, 20),
        (Layout::Nt, 130, 132, 96),
        (Layout::Nt, 65, 1000, 8),
        (Layout::Nt, 600, 516, 20),
        (Layout::Nt, 512, 512, 512),
        (Layout::Nn, 37, 124, 52),
        (Layout::Nn, 1, 4, 4),
        (Layout::Nn, 130, 132, 96),
        (Layout::Nn, 65, 1000, 8),
        (Layout::Nn, 600, 516, 20),
        (Layout::Nn, 512, 512, 512),
        (Layout::Tn, 124, 52, 37),
        (Layout::Tn, 4, 4, 1),
        (Layout::Tn, 132, 96, 130),
        (Layout::Tn, 1000, 8, 65),
        (Layout::Tn, 516, 520, 21),
        (Layout::Tn, 512, 512, 512),
    ];
    let stored = shapes.into_iter().flat_map(|(layout, rows, cols, inner)| {
        // What multiplies gradients of weights is activations.
        let types = if layout == Layout::Tn { &MATRIX_TYPES[..2] } else { &MATRIX_TYPES[..4] };
        types.iter().map(move |&dtype| (layout, Size { rows, cols, inner }, dtype))
    });
    // The others differ in what unpacks them: a shape for each text.
    let of_texts = [
        (Layout::Nt, 1, 4, 4),
        (Layout::Nt, 2, 100, 700),
        (Layout::Nt, 7, 36, 300),
        (Layout::Nt, 130, 132, 96),
        (Layout::Nn, 37, 124, 52),
    ];
    let others = of_texts.into_iter().flat_map(|(layout, rows, cols, inner)| {
        MATRIX_TYPES[4..].iter().map(move |&dtype| case(layout, Size { rows, cols, inner }, dtype, false))
    });
    let added = |(layout, size, dtype)| [false, true].map(|accumulate| case(layout, size, dtype, accumulate));
    let splits = [(16, 132, 530), (64, 64, 1024), (4, 4, 2100)].map(|(rows, cols, inner)| split(rows, cols, inner));
    let tiled = Tile::ALL.into_iter().flat_map(|tile| {
        let stored = types_in_tiles(tile).iter().map(|&dtype| (Layout::Nt, dtype));
        let others = [DType::Bf16, DType::Q4].map(|dtype| (Layout::Nn, dtype));
        stored.chain(others).chain([(Layout::Tn, DType::Real)]).map(move |(layout, dtype)| {
            case_in_tiles(layout, Size { rows: 152, cols: 132, inner: 36 }, dtype, false, tile)
        })
    });
    stored.flat_map(added).chain(others).chain(splits).chain(tiled).collect()
}

/// The rows of the table: a decoded token of 32 sequences, and what training multiplies.
pub fn bench() -> Vec<Case> {
    let square = [512, 768, 1024].map(|n| Size { rows: n, cols: n, inner: n });
    let [narrow, wide] = [(576, 1536), (1536, 576)].map(|(cols, inner)| Size { rows: 2048, cols, inner });
    let sizes = square.into_iter().chain([narrow, wide]);
    let of_layout = |layout| sizes.clone().map(move |size| case(layout, size, DType::Real, false));
    let decoding = case(Layout::Nt, Size { rows: 32, cols: 1536, inner: 576 }, DType::Real, false);
    std::iter::once(decoding).chain([Layout::Nt, Layout::Nn, Layout::Tn].into_iter().flat_map(of_layout)).collect()
}

/// As [`case`], of whole tensors. Of a few rows the limit is to read `b` once.
fn whole(layout: Layout, size: Size, dtype: DType) -> Case {
    let Size { rows, cols, inner } = size;
    let few = rows <= 32 && layout == Layout::Nt;
    let bytes = dtype.bytes(cols * inner, Precision::F32) + 4 * rows * (cols + inner);
    let work = if few { Work::Bytes(bytes as f64) } else { Work::Flops(2.0 * (rows * cols * inner) as f64) };
    let shape = format!("{layout:?} {rows} x {cols} x {inner}, {dtype:?}, whole");
    let [a_shape, b_shape] = match layout {
        Layout::Nt => [[rows, inner], [cols, inner]],
        Layout::Nn => [[rows, inner], [inner, cols]],
        Layout::Tn => [[inner, rows], [inner, cols]],
    };
    let case = Case::new(Matmul::SIGNATURE, shape, work);
    case.input("a", &a_shape).matrix("b", &b_shape, dtype).output("c", &[rows, cols]).run(move |device, tensors| {
        let [a, b, c] = tensors else { unreachable!() };
        let (a, b) = (Operand::whole(a, a_shape[1]), Operand::whole(b, b_shape[1]));
        let c = OperandMut::whole(c, cols);
        Matmul::run(device, Product { layout, rows, cols, inner, a, b, c, accumulate: false });
    })
}

/// The large rows of the table: a layer of Qwen2-7B, one of Qwen2-0.5B, a chunk of its LM head, adapters of rank 16; decoding.
pub fn large() -> impl Iterator<Item = Case> {
    use Layout::{Nn, Nt, Tn};
    let training = [
        (Nt, 1024, 3584, 3584),
        (Nn, 1024, 3584, 3584),
        (Tn, 3584, 3584, 1024),
        (Nt, 1024, 18944, 3584),
        (Nt, 1024, 3584, 18944),
        (Nt, 2048, 896, 896),
        (Nn, 2048, 896, 896),
        (Tn, 896, 896, 2048),
        (Nt, 2048, 128, 896),
        (Nt, 2048, 4864, 896),
        (Nn, 2048, 896, 4864),
        (Tn, 4864, 896, 2048),
        (Nt, 2048, 4096, 896),
        (Nt, 2048, 16, 896),
        (Nt, 2048, 896, 16),
    ];
    let decoding = [
        (Nt, 1, 4864, 896),
        (Nt, 8, 4864, 896),
        (Nt, 32, 4864, 896),
        (Nt, 1, 151_936, 896),
        (Nt, 32, 151_936, 896),
        (Nt, 1, 3584, 18944),
        (Nt, 4, 3584, 18944),
        (Nt, 32, 3584, 18944),
    ];
    let of_other_types = [training[0], training[1], decoding[5], decoding[7]];
    let of = |dtype| move |(layout, rows, cols, inner)| whole(layout, Size { rows, cols, inner }, dtype);
    let stored = training.into_iter().chain(decoding).map(of(DType::Real));
    let others = MATRIX_TYPES[1..].iter().flat_map(move |&dtype| of_other_types.into_iter().map(of(dtype)));
    stored.chain(others).chain([split(16, 896, 2048)])
}
