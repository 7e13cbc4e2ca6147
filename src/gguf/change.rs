//! In what llama.cpp's values of a tensor differ from Hugging Face's.

/// What differs between the values of a tensor in the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// 1 is added in a GGUF file.
    OneMore,
    /// The rows of each query or key head are in another order.
    HeadRows,
}

/// From which format to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    FromGguf,
    ToGguf,
}

impl Direction {
    /// Rows of heads of `head_dim` in the other order; each is `row_bytes` long.
    ///
    /// # Panics
    /// Where `bytes` are not whole heads.
    pub fn reorder(self, bytes: &[u8], row_bytes: usize, head_dim: usize) -> Vec<u8> {
        assert!(bytes.len().is_multiple_of(row_bytes * head_dim), "whole heads");
        let rows = bytes.len() / row_bytes;
        // A row comes from where the other direction would put it.
        let from = |row: usize| self.opposite().row(row, head_dim) * row_bytes;
        (0..rows).flat_map(|row| &bytes[from(row)..from(row) + row_bytes]).copied().collect()
    }

    /// What is added to values that differ by 1.
    pub fn addend(self) -> f32 {
        if self == Self::ToGguf { 1.0 } else { -1.0 }
    }

    fn opposite(self) -> Self {
        if self == Self::ToGguf { Self::FromGguf } else { Self::ToGguf }
    }

    /// Where a row goes. Those of the first half of a head are llama.cpp's even ones: it turns neighbours where transformers turns
    /// values that are half a head apart.
    fn row(self, row: usize, head_dim: usize) -> usize {
        let (head, place, half) = (row / head_dim, row % head_dim, head_dim / 2);
        head * head_dim
            + match self {
                Self::ToGguf => place % half * 2 + place / half,
                Self::FromGguf => place % 2 * half + place / 2,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_there_and_back() {
        let rows: Vec<u8> = (0..48).collect();
        let there = Direction::ToGguf.reorder(&rows, 2, 8);
        assert_eq!(there[..16], [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15]);
        assert_eq!(Direction::FromGguf.reorder(&there, 2, 8), rows);
    }
}
