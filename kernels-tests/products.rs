//! The CPU's matrix products: rows and columns at the edges of what is computed together, strides, sums, and the same bits
//! on any number of threads.

use dqo_wgpu::device::{Matrix, MatrixMut, Real, Threads, multiply};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rows, columns and inner values.
const SHAPES: [[usize; 3]; 14] = [
    [1, 1, 1],
    [1, 17, 5],
    [5, 1, 9],
    [3, 3, 0],
    [4, 4, 2],
    [7, 33, 65],
    [13, 15, 127],
    [16, 576, 64],
    [64, 64, 600],
    [129, 131, 130],
    [200, 72, 257],
    [130, 300, 1025],
    [400, 20, 30],
    [5, 1100, 1025],
];

/// A matrix in a larger one, by rows or by columns.
struct Stored<T> {
    data: Vec<T>,
    stride: usize,
    transposed: bool,
}

impl<T: Real> Stored<T> {
    fn random([rows, cols]: [usize; 2], transposed: bool, rng: &mut ChaCha8Rng) -> Self {
        let (lines, width) = if transposed { (cols, rows) } else { (rows, cols) };
        let stride = width + 3;
        let data = (0..lines * stride).map(|_| T::of(rng.random_range(-1.0..1.0))).collect();
        Self { data, stride, transposed }
    }

    fn matrix(&self) -> Matrix<'_, T> {
        let matrix = Matrix::row_major(&self.data, self.stride);
        if self.transposed { matrix.transposed() } else { matrix }
    }

    fn at(&self, row: usize, col: usize) -> f64 {
        let (line, column) = if self.transposed { (col, row) } else { (row, col) };
        self.data[line * self.stride + column].wide()
    }
}

/// Holds every shape in every layout against sums in f64: each output is within `unit` times the sum of what was added.
fn check<T: Real>(unit: f64) {
    let pools = [1, 2, 3].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads"));
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    // What an earlier product has left in the threads' memory shows in none after it.
    for pool in &pools {
        let nan = vec![T::nan(); 512 * 512];
        let (nan, mut c) = (Matrix::row_major(&nan, 512), vec![T::zero(); 512 * 512]);
        pool.install(|| multiply(Threads::All, MatrixMut::row_major(&mut c, 512), nan, nan.transposed(), 512, false));
    }
    for [rows, cols, inner] in SHAPES {
        for (a_transposed, b_transposed, accumulate) in
            [(false, true, false), (false, false, true), (true, false, true), (true, true, false)]
        {
            let name = format!("{rows} x {cols} x {inner}, {a_transposed} {b_transposed} {accumulate}");
            let a = Stored::<T>::random([rows, inner], a_transposed, &mut rng);
            let b = Stored::<T>::random([inner, cols], b_transposed, &mut rng);
            let stride = cols + 2;
            let before: Vec<T> = (0..rows * stride).map(|_| T::of(rng.random_range(-1.0..1.0))).collect();
            let product = |threads| {
                let mut c = before.clone();
                let to = MatrixMut { data: &mut c, rows, cols, row_stride: stride };
                multiply(threads, to, a.matrix(), b.matrix(), inner, accumulate);
                c
            };
            let alone = product(Threads::This);
            for pool in &pools {
                assert!(
                    pool.install(|| product(Threads::All)) == alone,
                    "{name}: on {} threads",
                    pool.current_num_threads()
                );
            }
            for row in 0..rows {
                for col in 0..stride {
                    let (c, before) = (alone[row * stride + col].wide(), before[row * stride + col].wide());
                    if col >= cols {
                        assert_eq!(c, before, "{name}: beside the matrix");
                        continue;
                    }
                    let start = if accumulate { before } else { 0.0 };
                    let terms = (0..inner).map(|k| a.at(row, k) * b.at(k, col));
                    let sum: f64 = start + terms.clone().sum::<f64>();
                    let size: f64 = start.abs() + terms.map(f64::abs).sum::<f64>();
                    assert!((c - sum).abs() <= unit * size, "{name}: {c} and not {sum} at {row}, {col}");
                }
            }
        }
    }
}

#[test]
fn products_are_right_at_every_edge_and_the_same_on_any_number_of_threads() {
    check::<f32>(1e-5);
    check::<f64>(1e-14);
}
