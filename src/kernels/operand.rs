//! A matrix inside a tensor: what a matrix product reads and writes.

use crate::device::Tensor;

/// A matrix inside a tensor: where it starts and how far it is from one row to the next, both in values and multiples
/// of 4.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    pub tensor: &'a Tensor,
    pub offset: usize,
    pub stride: usize,
}

/// As [`Operand`], to be written.
pub struct OperandMut<'a> {
    pub tensor: &'a mut Tensor,
    pub offset: usize,
    pub stride: usize,
}

macro_rules! places {
    ($operand:ident, $tensor:ty) => {
        impl<'a> $operand<'a> {
            /// The rows of `width` values that fill the tensor.
            pub fn whole(tensor: $tensor, width: usize) -> Self {
                Self { tensor, offset: 0, stride: width }
            }

            /// The same rows from row `row` on.
            pub fn from_row(self, row: usize) -> Self {
                Self { offset: self.offset + row * self.stride, ..self }
            }

            /// The same rows from column `column` on.
            pub fn from_column(self, column: usize) -> Self {
                Self { offset: self.offset + column, ..self }
            }
        }
    };
}
places!(Operand, &'a Tensor);
places!(OperandMut, &'a mut Tensor);
