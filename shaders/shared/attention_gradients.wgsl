// What the backward passes of attention load their tiles from.
fn fetch(source: u32, index: u32) -> vec4<f32> {
    if (source == Q) {
        return q[index];
    }
    if (source == DOUT) {
        return dout[index];
    }
    if (source == K) {
        return k[index];
    }
    return v[index];
}
