//! The gradients of keys and values do not depend on how the heads of a group are cut into calls, to the bit, on the CPU.

use dqo_wgpu::benches::case::bounds;
use dqo_wgpu::device::{DType, Device, MatmulPrecision, Precision, word};
use dqo_wgpu::kernels::{AttentionBackwardKeyValue, Heads};

const LENGTHS: [usize; 2] = [37, 60];
const HEADS: Heads = Heads { heads: 6, kv_heads: 2, head_dim: 12 };

/// dk and dv of made-up tensors, `members` heads of each group a call.
fn gradients(device: &Device, members: usize) -> [Vec<f64>; 2] {
    let Heads { heads, kv_heads, head_dim } = HEADS;
    let tokens: usize = LENGTHS.iter().sum();
    let wave = |name: &str, len: usize, pitch: f64| {
        let mut tensor = device.tensor(name, &[len], DType::Real).unwrap();
        tensor.write(0, (0..len).map(|i| (pitch * i as f64).sin())).unwrap();
        tensor
    };
    let mut places = device.tensor("bounds", &[2 * tokens], DType::U32).unwrap();
    places.write_u32(0, &bounds(&LENGTHS)).unwrap();
    let (of_queries, of_keys) = (tokens * heads * head_dim, tokens * kv_heads * head_dim);
    let (q, dout) = (wave("q", of_queries, 0.7), wave("dout", of_queries, 1.3));
    let (k, v) = (wave("k", of_keys, 0.9), wave("v", of_keys, 1.7));
    let row_statistics = wave("row_statistics", 2 * tokens * heads, 2.3);
    let (mut dk, mut dv) = (wave("dk", of_keys, 1.0), wave("dv", of_keys, 1.0));
    for first_member in (0..heads / kv_heads).step_by(members) {
        device.run(AttentionBackwardKeyValue {
            bounds: &places,
            q: &q,
            k: &k,
            v: &v,
            dout: &dout,
            row_statistics: &row_statistics,
            dk: &mut dk,
            dv: &mut dv,
            tokens: word(tokens),
            heads: word(heads),
            kv_heads: word(kv_heads),
            scale: HEADS.scale(),
            first_tile: 0,
            first_member: word(first_member),
            members: word(members),
            first_gradient: 0,
            layers: 1,
            window: u32::MAX,
            tiles: word(tokens.div_ceil(32)),
            head_dim: word(head_dim),
            reach: 60,
            precision: MatmulPrecision::Highest,
        });
    }
    [dk, dv].map(|tensor| tensor.read(of_keys).unwrap())
}

#[test]
fn the_cut_of_a_group_does_not_change_a_bit() {
    for precision in [Precision::F32, Precision::F64] {
        let device = Device::cpu(precision);
        assert!(gradients(&device, 3) == gradients(&device, 1), "{precision:?}");
    }
}
