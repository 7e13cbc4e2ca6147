use super::case::{Case, Work};
use super::rope::{POSITIONS, table};
use crate::device::{Call, DType};
use crate::kernels::{Heads, RopeCached};

/// The queries of `tokens` rotated by the angles of random positions, keys and values into distinct places out of `places`.
fn case(tokens: usize, places: usize, heads: Heads) -> Case {
    let Heads { heads, kv_heads, head_dim } = heads;
    let shape = format!("{tokens} x {heads}/{kv_heads} x {head_dim} to {places}");
    let bytes = 8 * tokens * (heads + 2 * kv_heads) * head_dim;
    let mut case = Case::new(RopeCached::SIGNATURE, shape, Work::Bytes(bytes as f64));
    let positions = case.indices(tokens, POSITIONS);
    let table = table(&mut case, head_dim);
    case.u32s("positions", positions)
        .u32s("places", (0..tokens).map(|token| (places - 1 - token) as u32).collect())
        .floats("table", &[POSITIONS, head_dim], DType::Real, table)
        .output("q", &[tokens, heads, head_dim])
        .input("k", &[tokens, kv_heads, head_dim])
        .input("v", &[tokens, kv_heads, head_dim])
        .output("cached_k", &[places, kv_heads, head_dim])
        .output("cached_v", &[places, kv_heads, head_dim])
        .run(move |device, tensors| {
            let [positions, places, table, q, k, v, cached_k, cached_v] = tensors else { unreachable!() };
            let (tokens, head_dim) = (tokens as u32, head_dim as u32);
            let (heads, kv_heads) = (heads as u32, kv_heads as u32);
            device.run(RopeCached {
                positions,
                places,
                table,
                q,
                k,
                v,
                cached_k,
                cached_v,
                tokens,
                heads,
                kv_heads,
                head_dim,
            });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    // Two products and a sum.
    let sizes = [(37, 40, 3, 1, 10), (1, 1, 1, 1, 2), (64, 300, 9, 3, 64), (7, 9, 2, 2, 128)];
    sizes
        .map(|(tokens, places, heads, kv_heads, head_dim)| {
            case(tokens, places, Heads { heads, kv_heads, head_dim }).within(1e-6)
        })
        .into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(64, 4096, Heads { heads: 9, kv_heads: 3, head_dim: 64 })]
}
