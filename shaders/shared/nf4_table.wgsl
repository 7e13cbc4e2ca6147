// NF4 by a table in workgroup memory.
var<workgroup> nf4_table: array<f32, 16>;

fn nf4(codes: vec4<u32>) -> vec4<f32> {
    return vec4(nf4_table[codes.x], nf4_table[codes.y], nf4_table[codes.z], nf4_table[codes.w]);
}

// Fills the table, before anything is unpacked.
fn prepare(lane: u32) {
    if (lane < 4u) {
        let values = chosen(4u * lane + vec4(0u, 1u, 2u, 3u));
        for (var d = 0u; d < 4u; d += 1u) {
            nf4_table[4u * lane + d] = values[d];
        }
    }
    workgroupBarrier();
}
