use super::case::{Case, Work};
use crate::device::Call;
use crate::device::DType;
use crate::kernels::{MatmulNn, Operand, OperandMut};

/// The product of `rows` x `inner` by `inner` x `cols`, each operand inside a larger tensor, added to what is there or
/// not; `b` stored as `dtype`.
pub fn case([rows, cols, inner]: [usize; 3], dtype: DType, accumulate: bool) -> Case {
    const MARGIN: usize = 8; // columns beside each operand; one row before it
    let added = if accumulate { ", added" } else { "" };
    let shape = format!("{rows} x {cols} x {inner}, {dtype:?}{added}");
    let mut case = Case::new(MatmulNn::SIGNATURE, shape, Work::Flops(2.0 * (rows * cols * inner) as f64));
    let [[a_rows, a_cols], [b_rows, b_cols]] = [[rows, inner], [inner, cols]];
    let b = case.uniform((b_rows + 1) * (b_cols + MARGIN));
    case.input("a", &[a_rows + 1, a_cols + MARGIN])
        .floats("b", &[b_rows + 1, b_cols + MARGIN], dtype, b)
        .output("c", &[rows + 1, cols + MARGIN])
        .run(move |device, tensors| {
            let [a, b, c] = tensors else { unreachable!() };
            let a = Operand::whole(a, a_cols + MARGIN).from_row(1).from_column(4);
            let b = Operand::whole(b, b_cols + MARGIN).from_row(1).from_column(4);
            let c = OperandMut::whole(c, cols + MARGIN).from_row(1).from_column(4);
            MatmulNn::run(device, c, a, b, [rows, cols, inner], accumulate);
        })
}

/// The rows of the table.
pub fn bench() -> Vec<Case> {
    [[512, 512, 512], [768, 768, 768], [1024, 1024, 1024], [2048, 576, 1536], [2048, 1536, 576]]
        .map(|shape| case(shape, DType::Real, false))
        .into()
}
