use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{AddBias, Biased};

/// Biases on `rows` of up to three matrices.
fn case(rows: usize, cols: [usize; 3]) -> Case {
    let all: usize = cols.iter().sum();
    let mut case = Case::new(AddBias::SIGNATURE, format!("{rows} x {cols:?}"), Work::Bytes(8.0 * (rows * all) as f64));
    for (name, cols) in ["bias0", "bias1", "bias2"].into_iter().zip(cols) {
        case = case.input(name, &[cols.max(1)]);
    }
    for (name, cols) in ["y0", "y1", "y2"].into_iter().zip(cols) {
        case = case.output(name, &[rows, cols.max(1)]);
    }
    case.run(move |device, tensors| {
        let [bias0, bias1, bias2, y0, y1, y2] = tensors else { unreachable!() };
        let parts = [(bias0, y0), (bias1, y1), (bias2, y2)].into_iter().zip(cols);
        let mut parts = parts.map(|((bias, y), cols)| Biased { bias: &*bias, y, cols });
        AddBias::run(device, std::array::from_fn(|_| parts.next().expect("three parts")), rows);
    })
}

/// What is tested: three parts, two and one, of whole groups of four and of others.
pub fn tests() -> Vec<Case> {
    let sizes = [(37, [123, 7, 50]), (1, [1, 0, 0]), (130, [576, 192, 192]), (3, [64, 8, 0])];
    // One sum, rounded once.
    sizes.map(|(rows, cols)| case(rows, cols).within(1e-6)).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(1024, [576, 192, 192])]
}
