use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{AttentionCached, Heads};

/// A row for each of these counts of keys, which stand in a cache with gaps, last row first.
pub fn case(counts: &[usize], heads: Heads, range: f64) -> Case {
    const GAP: usize = 3;
    let Heads { heads: h, kv_heads: g, head_dim: d } = heads;
    let (rows, longest) = (counts.len(), counts.iter().copied().max().unwrap_or(0));
    let mut places = GAP;
    let mut spans = vec![0; 2 * rows];
    for (row, &count) in counts.iter().enumerate().rev() {
        spans[2 * row] = places as u32;
        spans[2 * row + 1] = count as u32;
        places += count + GAP;
    }
    let shape = format!("{}, {h}/{g} heads of {d}, +-{range}", super::case::lengths_label(counts));
    let keys: usize = counts.iter().sum();
    Case::new(AttentionCached::SIGNATURE, shape, Work::Bytes(8.0 * (keys * g * d) as f64))
        .u32s("spans", spans)
        .scaled("q", &[rows, h, d], range)
        .scaled("k", &[places, g, d], range)
        .input("v", &[places, g, d])
        .output("o", &[rows, h, d])
        .run(move |device, tensors| {
            let [spans, q, k, v, o] = tensors else { unreachable!() };
            device.run(AttentionCached {
                spans,
                q,
                k,
                v,
                o,
                rows: rows as u32,
                heads: h as u32,
                kv_heads: g as u32,
                scale: heads.scale(),
                head_dim: d as u32,
                longest: longest as u32,
            });
        })
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[256; 32], Heads { heads: 9, kv_heads: 3, head_dim: 64 }, 1.0)]
}
