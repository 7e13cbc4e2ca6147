// Rows whose length is a multiple of 4 are read four values at a time.
alias element = vec4<f32>;
const WIDTH = 4u;

fn total(v: element) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
