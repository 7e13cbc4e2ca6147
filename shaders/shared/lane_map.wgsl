// The maps of a lane's positions, end - 1 - skip and the ITEMS - 1 before it, composed, over a sequence of `length` positions.
// `first_power` is lambda^skip. `step_map(t, end, final_value, tail_power)`, the map of position t, is the kernel's.
fn lane_map(skip: u32, first_power: f32, length: u32, end: u32, final_value: f32, paper_tail: bool) -> vec2<f32> {
    var composed = IDENTITY;
    var power = first_power;
    for (var item = 0u; item < ITEMS; item += 1u) {
        if (skip + item < length) {
            let t = end - 1u - skip - item;
            power *= params.lambda;
            composed = compose(step_map(t, end, final_value, select(0.0, power, paper_tail)), composed);
        }
    }
    return composed;
}
