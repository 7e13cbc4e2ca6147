use super::attention::{LARGE_HEADS, SMALL_HEADS};
use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{AttentionCached, CachedKeys, CachedOutput, Heads};

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
    let parts = AttentionCached::most_parts(longest);
    Case::new(AttentionCached::SIGNATURE, shape, Work::Bytes(8.0 * (keys * g * d) as f64))
        .u32s("spans", spans)
        .scaled("q", &[rows, h, d], range)
        .scaled("k", &[places, g, d], range)
        .input("v", &[places, g, d])
        .output("o", &[rows, h, d])
        .input("part_o", &[parts, rows, h, d])
        .input("part_lse", &[parts, rows, h])
        .run(move |device, tensors| {
            let [spans, q, k, v, o, part_o, part_lse] = tensors else { unreachable!() };
            let keys = CachedKeys { spans, q, k, v, rows, longest, scale: heads.scale() };
            AttentionCached::run(device, heads, keys, CachedOutput { o, part_o, part_lse });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let shapes: [(&[usize], Heads); 7] = [
        (&[1], Heads { heads: 1, kv_heads: 1, head_dim: 4 }),
        (&[37, 1, 60, 4], Heads { heads: 6, kv_heads: 2, head_dim: 12 }),
        (&[5, 31, 32, 33], Heads { heads: 2, kv_heads: 2, head_dim: 32 }),
        (&[130, 2], Heads { heads: 7, kv_heads: 1, head_dim: 64 }),
        (&[40, 50], Heads { heads: 8, kv_heads: 2, head_dim: 100 }),
        (&[20, 150], Heads { heads: 2, kv_heads: 1, head_dim: 132 }),
        (&[70], Heads { heads: 9, kv_heads: 3, head_dim: 256 }),
    ];
    let ordinary = shapes.map(|(counts, heads)| case(counts, heads, 1.0));
    // A score of 2000 has 2000 * 2^-24 = 1e-4 of absolute precision in f32, and exp makes that a relative error.
    let steep = case(&[37, 60], Heads { heads: 2, kv_heads: 1, head_dim: 64 }, 30.0).within(3e-4);
    // A pipeline each: heads as models have them, every number of members, and enough workgroups for each to take two heads.
    let pipelines = [64, 96, 128, 256].into_iter().flat_map(|head_dim| {
        let few = (1..=4).map(move |members| case(&[5, 2], Heads { heads: 2 * members, kv_heads: 2, head_dim }, 1.0));
        few.chain([case(&[5; 64], Heads { heads: 8, kv_heads: 4, head_dim }, 1.0)])
    });
    // A GPU takes the keys in parts; of the second row the last ones are empty.
    let in_parts =
        [[1300, 600], [1025, 1]].map(|counts| case(&counts, Heads { heads: 3, kv_heads: 1, head_dim: 64 }, 1.0));
    // As many, and a last head alone.
    let many = case(&[9; 64], Heads { heads: 7, kv_heads: 1, head_dim: 64 }, 1.0);
    ordinary.into_iter().chain([steep, many]).chain(in_parts).chain(pipelines).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[256; 32], Heads { heads: 9, kv_heads: 3, head_dim: 64 }, 1.0)]
}

/// The large rows of the table.
pub fn large() -> impl Iterator<Item = Case> {
    let shapes: [(&[usize], Heads); 5] = [
        (&[4096], SMALL_HEADS),
        (&[16384], SMALL_HEADS),
        (&[1024; 32], SMALL_HEADS),
        (&[4096], LARGE_HEADS),
        (&[4096; 8], LARGE_HEADS),
    ];
    shapes.into_iter().map(|(counts, heads)| case(counts, heads, 1.0))
}
