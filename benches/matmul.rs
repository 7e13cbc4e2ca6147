use super::case::{Case, Work};
use crate::device::{Call, DType};
use crate::kernels::{Layout, Matmul, Operand, OperandMut, Product};

/// The sizes of a product of `rows` x `inner` by `inner` x `cols`.
#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    cols: usize,
    inner: usize,
}

/// A product, each operand inside a larger tensor, added to what is there or not; `b` stored as `dtype`.
fn case(layout: Layout, size: Size, dtype: DType, accumulate: bool) -> Case {
    const MARGIN: usize = 8; // columns beside each operand; one row before it
    let Size { rows, cols, inner } = size;
    let added = if accumulate { ", added" } else { "" };
    let shape = format!("{layout:?} {rows} x {cols} x {inner}, {dtype:?}{added}");
    let mut case = Case::new(Matmul::SIGNATURE, shape, Work::Flops(2.0 * (rows * cols * inner) as f64));
    let [[a_rows, a_cols], [b_rows, b_cols]] = match layout {
        Layout::Nt => [[rows, inner], [cols, inner]],
        Layout::Nn => [[rows, inner], [inner, cols]],
        Layout::Tn => [[inner, rows], [inner, cols]],
    };
    let b = case.uniform((b_rows + 1) * (b_cols + MARGIN));
    case.input("a", &[a_rows + 1, a_cols + MARGIN])
        .floats("b", &[b_rows + 1, b_cols + MARGIN], dtype, b)
        .output("c", &[rows + 1, cols + MARGIN])
        .run(move |device, tensors| {
            let [a, b, c] = tensors else { unreachable!() };
            let a = Operand::whole(a, a_cols + MARGIN).from_row(1).from_column(4);
            let b = Operand::whole(b, b_cols + MARGIN).from_row(1).from_column(4);
            let c = OperandMut::whole(c, cols + MARGIN).from_row(1).from_column(4);
            Matmul::run(device, Product { layout, rows, cols, inner, a, b, c, accumulate });
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
        [DType::Real, DType::Bf16].map(|dtype| (layout, Size { rows, cols, inner }, dtype))
    });
    let added = |(layout, size, dtype)| [false, true].map(|accumulate| case(layout, size, dtype, accumulate));
    let splits = [(16, 132, 530), (64, 64, 1024), (4, 4, 2100)].map(|(rows, cols, inner)| split(rows, cols, inner));
    stored.flat_map(added).chain(splits).collect()
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
