// Up to three matrices side by side that are multiplied by the same x: which of them a tile is of, and where the operands and the
// results lie. A part without columns is not there.

// The part that the workgroup computes, and its columns.
var<private> part: u32;
var<private> cols: u32;

fn tiles_of(cols: u32, width: u32) -> u32 {
    return (cols + width - 1u) / width;
}

// The grid of tiles of a size, columns first: the parts' tiles stand side by side.
fn grid_of(size: vec2<u32>) -> vec2<u32> {
    let across = tiles_of(params.cols0, size.x) + tiles_of(params.cols1, size.x) + tiles_of(params.cols2, size.x);
    return vec2(across, (params.rows + size.y - 1u) / size.y);
}

// The first column and row of a tile.
fn corner_of(tile: vec2<u32>, size: vec2<u32>) -> vec2<u32> {
    let first1 = tiles_of(params.cols0, size.x);
    let first2 = first1 + tiles_of(params.cols1, size.x);
    part = select(select(2u, 1u, tile.x < first2), 0u, tile.x < first1);
    cols = select(select(params.cols2, params.cols1, part == 1u), params.cols0, part == 0u);
    let first = select(select(first2, first1, part == 1u), 0u, part == 0u);
    return vec2(tile.x - first, tile.y) * size;
}

// Where a quad of an operand lies. Rows and columns after the last are read as the last; their sums are not stored.
fn left_place(row: u32, k: u32) -> u32 {
    return ((params.first_row + min(row, params.rows - 1u)) * params.inner + k) / 4u;
}

fn right_place(col: u32, k: u32) -> u32 {
    return (min(col, cols - 1u) * params.inner + k) / 4u;
}

// A quad, as it is stored.
fn left_quad(place: u32) -> vec4<f32> {
    return x[place];
}

fn right_quad(quad: u32) -> weight4 {
    if (part == 0u) {
        let at = places_of(quad);
        return weight_of(w0[at.x], w0[at.y], w0[at.z], w0[at.w], quad);
    }
    if (part == 1u) {
        let at = places_of(quad);
        return weight_of(w1[at.x], w1[at.y], w1[at.z], w1[at.w], quad);
    }
    let at = places_of(quad);
    return weight_of(w2[at.x], w2[at.y], w2[at.z], w2[at.w], quad);
}

fn store(row: u32, col: u32, layer: u32, sum: vec4<f32>) {
    if (row < params.rows && col < cols) {
        let place = ((params.first_row + row) * cols + col) / 4u;
        if (part == 0u) {
            y0[place] = sum;
        } else if (part == 1u) {
            y1[place] = sum;
        } else {
            y2[place] = sum;
        }
    }
}
