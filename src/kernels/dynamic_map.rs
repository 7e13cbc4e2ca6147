//! What the 8-bit codes of AdamW's moments stand for: the dynamic maps of Dettmers (2015), as bitsandbytes'
//! `create_dynamic_map` has them.

/// Codes of a map.
pub const CODES: usize = 256;

/// The decades that a map covers: 1e-7 to 1.
const DECADES: usize = 7;

/// What codes stand for, in order: of the signed map, for the mean of gradients, and the unsigned one, for that of their squares.
/// A decade has twice as many values as the one below it.
pub fn dynamic_maps() -> [[f32; CODES]; 2] {
    [true, false].map(|signed| {
        let mut map = [0.0; CODES];
        map[CODES - 1] = 1.0;
        let mut next = 0;
        for decade in 0..DECADES {
            let scale = 10f64.powi(decade as i32 + 1 - DECADES as i32) as f32;
            for mean in means(if signed { 1 } else { 2 } << decade) {
                map[next] = scale * mean;
                next += 1;
                if signed {
                    map[next] = -scale * mean;
                    next += 1;
                }
            }
        }
        map.sort_by(f32::total_cmp);
        map
    })
}

/// The middles of so many equal parts of 0.1 to 1, in the order of operations of `torch.linspace`.
fn means(parts: usize) -> impl Iterator<Item = f32> {
    let (start, end) = (0.1f32, 1.0f32);
    let step = (end - start) / parts as f32;
    let boundary = move |i: usize| match i < parts.div_ceil(2) {
        true => step.mul_add(i as f32, start),
        false => (-step).mul_add((parts - i) as f32, end),
    };
    (0..parts).map(move |i| (boundary(i) + boundary(i + 1)) / 2.0)
}
