//! Operands of the CPU's products, in memory that is another's.

/// A read-only operand of a product: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    pub data: &'a [T],
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// The same elements with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Matrix { data: self.data, row_stride: self.col_stride, col_stride: self.row_stride }
    }

    /// A whole row-major array of rows of `cols`.
    pub fn row_major(data: &'a [T], cols: usize) -> Self {
        Matrix { data, row_stride: cols, col_stride: 1 }
    }
}

/// The output of a product, row-major: element (i, j) is `data[i * row_stride + j]`.
pub struct MatrixMut<'a, T> {
    pub data: &'a mut [T],
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
}

impl<'a, T> MatrixMut<'a, T> {
    /// A whole row-major array of rows of `cols`.
    pub fn row_major(data: &'a mut [T], cols: usize) -> Self {
        let rows = data.len() / cols;
        MatrixMut { data, rows, cols, row_stride: cols }
    }
}

/// Rows of x that are multiplied: `count` of them, of `inner` values, `stride` apart.
#[derive(Clone, Copy)]
pub struct Rows<'a, T> {
    pub x: &'a [T],
    pub stride: usize,
    pub inner: usize,
    pub count: usize,
}
